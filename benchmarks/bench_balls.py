"""`step` in a ball beside the same step without one: what the ball costs where nine rows of ten touch it."""

from __future__ import annotations

import pytest
import torch
from contestants import arguments, step_anew, step_into, with_threads, yardsticks
from oracle import assert_right
from rows import ALPHA, SIZES, binding_radius, peaked, touching

LEAST_TOUCHING = 0.8


@pytest.mark.parametrize(
    ("norm", "threads"),
    [("l1", 1), ("l1", 2), ("l2", 1), ("linf", 1)],
    ids=["l1-1thread", "l1-2threads", "l2-1thread", "linf-1thread"],
)
@pytest.mark.parametrize("k", SIZES, ids=lambda k: f"K{k}")
def test_step_in_a_ball(versus, nbytes: int, k: int, norm: str, threads: int) -> None:
    p, g = peaked(k, nbytes)
    epsilon = binding_radius(p, g, norm)
    given, out = arguments(p, g, epsilon, norm), torch.empty_like(p)
    q = torch.ops.mipoison.step(*given)[0]
    assert_right("step", q, *given)
    share = touching(q, p, epsilon, norm)
    assert share >= LEAST_TOUCHING
    contestants = {
        "step": step_into(out, *given),
        "step, new output": step_anew(*given),
        "step, no ball": step_into(out, *arguments(p, g)),
        **yardsticks(p, g, out),
    }
    if threads > 1:
        contestants["step, one thread"] = with_threads(1, contestants["step"])
    versus(
        contestants,
        operation="step",
        group="throughput",
        n=len(p),
        k=k,
        dtype="float32",
        norm=norm,
        alpha=ALPHA,
        epsilon=epsilon,
        touching=share,
        threads=threads,
        bytes=3 * p.nbytes,
    )
