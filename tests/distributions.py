"""Rows of every shape that a classifier can answer with, for tests parametrised by distribution."""

from __future__ import annotations

import torch
from torch import Tensor

DISTRIBUTIONS = ("peaked", "flat", "one-hot", "ties", "near-ties", "zeros", "plain")


def draw(distribution: str, n: int, k: int, seed: int = 0) -> Tensor:
    """Probability vectors, float64 [n, k], whose sums are one to rounding."""
    generator = torch.Generator().manual_seed(seed)

    def normal() -> Tensor:
        return torch.randn(n, k, generator=generator, dtype=torch.float64)

    if distribution == "one-hot":
        label = torch.randint(0, k, (n,), generator=generator)
        return torch.nn.functional.one_hot(label, k).to(torch.float64)
    if distribution == "zeros":
        p = torch.softmax(normal(), 1)
        p = torch.where(torch.rand(n, k, generator=generator) < 0.5, 0.0, p)
        p[:, 0] += 0.25
        return p / p.sum(1, keepdim=True)
    ranks = torch.randint(0, 3, (n, k), generator=generator).to(torch.float64)
    logits = {
        "peaked": lambda: 6 * normal(),
        "flat": lambda: 0.05 * normal(),
        "ties": lambda: ranks,
        "near-ties": lambda: ranks + 1e-6 * normal(),
        "plain": lambda: 1.5 * normal(),
    }[distribution]()
    return torch.softmax(logits, 1)


def relabelled(rows: Tensor, label: Tensor) -> Tensor:
    """Rows [N, K] whose largest entry has changed places with that of a label [N], which may leave a tie."""
    top, own = rows.argmax(1, keepdim=True), label[:, None]
    largest, entry = rows.gather(1, top), rows.gather(1, own)
    return rows.scatter(1, top, entry).scatter(1, own, largest)


def directions(n: int, k: int, seed: int = 1) -> Tensor:
    """Gaussian directions, float64 [n, k]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, k, generator=generator, dtype=torch.float64)
