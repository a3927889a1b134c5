"""Times `step` in float16, bfloat16 and float64, which move half or twice the bytes of float32."""

from __future__ import annotations

import math

import pytest
import torch
from contestants import arguments, baselines, step_into, step_to_new_output
from oracle import assert_matches_reference
from rows import ALPHA, binding_radius, peaked, touching


@pytest.mark.parametrize("norm", ["none", "l1"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("k", [10, 100, 1000], ids=lambda k: f"K{k}")
def test_step_in(versus, nbytes: int, k: int, dtype: str, norm: str) -> None:
    p, g = peaked(k, nbytes, getattr(torch, dtype))
    epsilon = math.inf if norm == "none" else binding_radius(p, g, norm)
    given, out = arguments(p, g, epsilon), torch.empty_like(p)
    q = torch.ops.mipoison.step(*given)[0]
    assert_matches_reference("step", q, *given)
    versus(
        {
            "step": step_into(out, *given),
            "step, new output": step_to_new_output(*given),
            **baselines(p, g, out),
        },
        operation="step",
        group="throughput",
        n=len(p),
        k=k,
        dtype=dtype,
        norm=norm,
        alpha=ALPHA,
        epsilon=None if math.isinf(epsilon) else epsilon,
        touching=None if math.isinf(epsilon) else touching(q, p, epsilon, norm),
        bytes=3 * p.nbytes,
    )
