"""`step` without a ball beside torch.add(out=), the floor, and torch.softmax(out=), another pass over rows."""

from __future__ import annotations

import pytest
import torch
from contestants import arguments, step_anew, step_into, with_threads, yardsticks
from oracle import assert_right
from rows import ALPHA, SIZES, peaked


@pytest.mark.parametrize("threads", [1, 2], ids=["1thread", "2threads"])
@pytest.mark.parametrize("k", SIZES, ids=lambda k: f"K{k}")
def test_step(versus, nbytes: int, k: int, threads: int) -> None:
    p, g = peaked(k, nbytes)
    given, out = arguments(p, g), torch.empty_like(p)
    assert_right("step", torch.ops.mipoison.step(*given)[0], *given)
    contestants = {
        "step": step_into(out, *given),
        "step, new output": step_anew(*given),
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
        norm="none",
        alpha=ALPHA,
        epsilon=None,
        touching=None,
        threads=threads,
        bytes=3 * p.nbytes,
    )
