"""Times `step` without a ball against torch.add(out=), the lower bound, and torch.softmax(out=)."""

from __future__ import annotations

import pytest
import torch
from contestants import arguments, baselines, step_into, step_to_new_output, with_threads
from oracle import assert_matches_reference
from rows import ALPHA, SIZES, peaked


@pytest.mark.parametrize("threads", [1, 2], ids=["1thread", "2threads"])
@pytest.mark.parametrize("k", SIZES, ids=lambda k: f"K{k}")
def test_step(versus, nbytes: int, k: int, threads: int) -> None:
    p, g = peaked(k, nbytes)
    given, out = arguments(p, g), torch.empty_like(p)
    assert_matches_reference("step", torch.ops.mipoison.step(*given)[0], *given)
    contestants = {
        "step": step_into(out, *given),
        "step, new output": step_to_new_output(*given),
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
        norm="none",
        alpha=ALPHA,
        epsilon=None,
        touching=None,
        threads=threads,
        bytes=3 * p.nbytes,
    )
