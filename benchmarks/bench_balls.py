"""Times `step` with a ball against `step` without one, at a radius where nine rows of ten touch the ball."""

from __future__ import annotations

import pytest
import torch
from contestants import arguments, baselines, step_into, step_to_new_output, with_threads
from oracle import assert_matches_reference
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
    assert_matches_reference("step", q, *given)
    share = touching(q, p, epsilon, norm)
    assert share >= LEAST_TOUCHING
    contestants = {
        "step": step_into(out, *given),
        "step, new output": step_to_new_output(*given),
        "step, no ball": step_into(out, *arguments(p, g)),
        **baselines(p, g, out),
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
