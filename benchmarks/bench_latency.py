"""Times one call on few rows, where dispatch costs more than the kernel."""

from __future__ import annotations

import math

import pytest
import torch
from contestants import arguments, step_into
from oracle import assert_matches_reference
from rows import ALPHA, binding_radius, peaked, touching

import mipoison as mp

ROUNDS = 25
CALLS = 400
# Bytes of the rows that the radius is chosen on. The calls get the first of these rows.
SAMPLE_BYTES = 4_000_000


@pytest.mark.parametrize("norm", ["none", "l1"])
@pytest.mark.parametrize("k", [10, 1000], ids=lambda k: f"K{k}")
@pytest.mark.parametrize("n", [1, 8, 32], ids=lambda n: f"N{n}")
def test_latency(versus, n: int, k: int, norm: str) -> None:
    many, directions = peaked(k, SAMPLE_BYTES)
    epsilon = math.inf if norm == "none" else binding_radius(many, directions, norm)
    p, g = many[:n].clone(), directions[:n].clone()
    given, out = arguments(p, g, epsilon), torch.empty_like(p)
    q = torch.ops.mipoison.step(*given)[0]
    assert_matches_reference("step", q, *given)
    ball = {} if norm == "none" else {"center": p, "epsilon": epsilon}
    versus(
        {
            "step": lambda: torch.ops.mipoison.step(*given),
            "step, status read": lambda: int(torch.ops.mipoison.step(*given)[1]),
            "step, out=": step_into(out, *given),
            "mp.step": lambda: mp.step(p, g, alpha=ALPHA, **ball),
            "softmax": lambda: torch.softmax(p, 1),
        },
        operation="step",
        group="latency",
        n=n,
        k=k,
        dtype="float32",
        norm=norm,
        alpha=ALPHA,
        epsilon=None if norm == "none" else epsilon,
        touching=None if norm == "none" else touching(q, p, epsilon, norm),
        bytes=3 * p.nbytes,
        calls=CALLS,
        rounds=ROUNDS,
    )
