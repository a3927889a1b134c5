"""The operators that the extension registers itself: what they refuse, and that they keep nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from distributions import directions, draw
from torch import Tensor

OPS = torch.ops.mipoison
INF = math.inf
KEY = torch.tensor([1, 2, 3, 4])


def resident() -> int:
    """Pages of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1])


def step(q: Tensor, g: Tensor, p: Tensor | None = None, t: Tensor | None = None) -> Any:
    return OPS.step(q, g, p, t, 0.1, INF, "l1", 0.0, False)


def test_out_of_bounds_arguments_are_refused() -> None:
    p, g = draw("plain", 4, 6).float(), directions(4, 6).float()
    labels = torch.zeros(4, dtype=torch.int64)
    refused: dict[str, tuple[Callable[[], Any], str]] = {
        "vector": (lambda: step(p[0], g[0]), r"rows of shape \[N, K\]"),
        "fewer directions": (lambda: step(p, g[:3]), "one shape"),
        "narrower directions": (lambda: step(p, g[:, :5]), "one shape"),
        "other directions": (lambda: step(p, g.double()), "one shape"),
        "fewer centers": (lambda: step(p, g, p[:3]), "one shape"),
        "fewer labels": (lambda: step(p, g, p, labels[:3]), "labels of int64"),
        "short labels": (lambda: step(p, g, p, labels.int()), "labels of int64"),
        "integers": (lambda: step(p.long(), g.long()), "another dtype"),
        "norm": (
            lambda: OPS.project(p, p, None, 0.1, "l3", 0.0, False),
            "norm to be l1, l2 or linf, got l3",
        ),
        "targets": (lambda: OPS.move(p, p[:2], 0.1, "l1", "straight"), "one shape"),
        "travel": (
            lambda: OPS.move(p, p, 0.1, "l1", "swap"),
            "straight, waterfill or sparse, got swap",
        ),
        "shorter out": (
            lambda: OPS.project_out(p, p, None, 0.1, "l1", 0.0, False, torch.zeros(3, 6)),
            "one shape",
        ),
        "other out": (
            lambda: OPS.step_out(
                p, g, p, None, 0.1, 0.2, "l1", 0.0, False, torch.zeros(4, 6).half()
            ),
            "one shape",
        ),
        "key": (lambda: OPS.flip(p, None, 0.5, KEY[:3], "swap"), r"a key of int64 and shape \[4\]"),
        "short key": (lambda: OPS.row_bits(p, KEY.int(), 0, 0.0, 4), "a key of int64"),
        "rate": (lambda: OPS.flip(p, None, math.nan, KEY, "swap"), r"rate in \[0, 1\]"),
        "rate above": (lambda: OPS.flip(p, None, 1.5, KEY, "swap"), r"rate in \[0, 1\]"),
        "derivative": (
            lambda: OPS.project_vjp(p, p, p, None, 0.1, "l3", 0.0, False),
            "norm to be l1, l2 or linf, got l3",
        ),
        "exchange": (lambda: OPS.flip(p, None, 0.5, KEY, "straight"), "swap or project"),
    }
    for name, (call, message) in refused.items():
        with pytest.raises(ValueError, match=message):
            call()
            pytest.fail(f"{name} was served")


def test_calls_keep_no_memory() -> None:
    # Columns first: the kernels read copies, which must go too.
    p = draw("plain", 500, 500).float().t().contiguous().t()
    g, labels = directions(500, 500).float(), torch.zeros(1000, dtype=torch.int64)[::2]
    leaf, out = g.clone().requires_grad_(), torch.empty_like(g)

    def call() -> None:
        OPS.step(p, g, p, None, 0.1, 0.2, "l1", 0.0, False)
        OPS.project(g, p, labels, INF, "l1", 0.0, False)
        OPS.move(p, p, 0.1, "l2", "straight")
        OPS.flip(p, labels, 0.5, KEY, "swap")
        OPS.row_bits(p, KEY, 0, 0.0, 500)
        OPS.step_out(p, g, p, None, 0.1, 0.2, "l1", 0.0, False, out)
        OPS.project_out(g, p, labels, INF, "l1", 0.0, False, out.t())
        with pytest.raises(RuntimeError, match="requires grad"):
            OPS.project_out(leaf, None, labels, INF, "l1", 0.0, False, out)
        with pytest.raises(ValueError, match="got l3"):
            OPS.step(p, g, p, labels, 0.1, 0.2, "l3", 0.0, False)

    for _ in range(5):
        call()
    before = resident()
    for _ in range(60):
        call()
    # A megabyte kept by each round would be 60 · 256 pages.
    assert resident() - before < 30 * 256
