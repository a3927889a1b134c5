"""`step` and `project` against torch.softmax, torch.add, a sort-based projection and the reference.

Run with `make bench`, or `pytest benchmarks/ --benchmark-only`; add `--benchmark-json FILE` to keep the ratios.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mipoison.ops.library import REFERENCE

ALPHA = 0.1
# About 80 MB a tensor in float32, far beyond the caches; the reference gets a slice it can finish.
ELEMENTS = 20_000_000
REFERENCE_ROWS = 200


def rows(k: int, elements: int = ELEMENTS) -> tuple[Tensor, Tensor]:
    """Softmax rows of Gaussian logits and Gaussian directions, float32 [elements / k, k]."""
    generator = torch.Generator().manual_seed(0)
    n = max(1, elements // k)
    p = torch.softmax(torch.randn(n, k, generator=generator), 1)
    return p, torch.randn(n, k, generator=generator)


def sorted_step(p: Tensor, g: Tensor) -> Tensor:
    """The textbook way (Held et al. 1974; Duchi et al. 2008): sort, cumulative sum, threshold; no label is kept."""
    z = p + ALPHA * g / g.norm(dim=1, keepdim=True)
    u = z.sort(dim=1, descending=True).values
    excess = u.cumsum(1) - 1
    count = torch.arange(1, z.shape[1] + 1)
    support = (u * count > excess).sum(1, keepdim=True)
    return (z - excess.gather(1, support - 1) / support).clamp_min(0)


def no_ball(p: Tensor, g: Tensor) -> tuple[object, ...]:
    """Arguments of the `step` operator without a ball."""
    return (p, g, p, None, ALPHA, math.inf, "l1", 0.0, False)


@pytest.mark.parametrize("k", [10, 100, 1000])
def test_step(versus, k: int) -> None:
    p, g = rows(k)
    out = torch.empty_like(p)
    # Correct before fast: where the label wins by itself both ways give one answer.
    ours, theirs = (
        torch.ops.mipoison.step(*no_ball(p[:1000], g[:1000]))[0],
        sorted_step(p[:1000], g[:1000]),
    )
    same = theirs.argmax(1) == p[:1000].argmax(1)
    assert same.any() and torch.allclose(ours[same], theirs[same], atol=1e-5)
    versus(
        {
            "step": lambda: torch.ops.mipoison.step(*no_ball(p, g)),
            "softmax": lambda: torch.softmax(p, 1, out=out),
            "add": lambda: torch.add(p, g, out=out),
            "sort": lambda: sorted_step(p, g),
        },
        n=len(p),
        k=k,
        alpha=ALPHA,
        dtype="float32",
    )


@pytest.mark.parametrize("k", [10, 100, 1000])
@pytest.mark.parametrize(
    ("norm", "epsilon"), [("none", math.inf), ("l1", 0.05), ("l2", 0.03), ("linf", 0.01)]
)
def test_project(versus, k: int, norm: str, epsilon: float) -> None:
    p, g = rows(k, elements=2_000_000)
    z = p + ALPHA * g
    norm = "l1" if norm == "none" else norm
    out = torch.empty_like(p)
    q, status = torch.ops.mipoison.project(z, p, None, epsilon, norm, 0.0, False)
    assert int(status) == 0
    versus(
        {
            "project": lambda: torch.ops.mipoison.project(z, p, None, epsilon, norm, 0.0, False),
            "softmax": lambda: torch.softmax(p, 1, out=out),
            "add": lambda: torch.add(p, g, out=out),
        },
        n=len(p),
        k=k,
        norm=norm,
        epsilon=epsilon,
        # The ball costs only where a row reaches it.
        touching=float(((q - p).abs().sum(1) > 0.99 * epsilon).float().mean())
        if norm == "l1"
        else None,
        dtype="float32",
    )


@pytest.mark.parametrize(("norm", "epsilon"), [("l1", math.inf), ("l1", 0.05)])
def test_step_against_the_reference(versus, norm: str, epsilon: float) -> None:
    p, g = rows(1000, elements=1000 * REFERENCE_ROWS)
    arguments = (p, g, p, None, ALPHA, epsilon, norm, 0.0, False)
    versus(
        {
            "step": lambda: torch.ops.mipoison.step(*arguments),
            "reference": lambda: REFERENCE["step"](*arguments),
        },
        n=len(p),
        k=1000,
        norm=norm,
        epsilon=epsilon,
        dtype="float32",
    )


@pytest.mark.parametrize("n", [1, 8, 32])
def test_latency(versus, n: int) -> None:
    p, g = rows(10, elements=10 * n)
    versus(
        {
            "step": lambda: torch.ops.mipoison.step(*no_ball(p, g)),
            "softmax": lambda: torch.softmax(p, 1),
        },
        n=n,
        k=10,
        dtype="float32",
    )
