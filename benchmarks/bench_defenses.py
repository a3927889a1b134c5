"""Times whole answers of every objective, with all checks, on one thread: one request, a few, and many rows."""

from __future__ import annotations

import functools

import pytest
import torch
from contestants import plain_forward
from worlds import world

import mipoison as mp
from mipoison.defenses.lpa import OBJECTIVES
from mipoison.defenses.lpa.candidates import Candidates

K = 10
# Rows that a defense is fitted on, with --record and without.
FITTED, FEW = 1000, 200
# Networks of the equilibrium's scorer, on as many candidates as it has for a row.
SCORER_WIDTH, SCORER_OUTPUTS = 64, 32
CALLS = 50


@functools.cache
def fitted(objective: str, rows: int) -> mp.LPA:
    """A defense fitted on random rows of ten classes."""
    p, x = world(rows, K, 16, seed=7)
    key = 3 if OBJECTIVES[objective].keyed else None
    return mp.LPA.fit(p, x, objective=objective, key=key)


@pytest.mark.parametrize("n", [1, 8, 32, 1024, 100_000], ids=lambda n: f"N{n}")
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_defense(versus, request: pytest.FixtureRequest, objective: str, n: int) -> None:
    record = request.config.getoption("--record")
    defense = fitted(objective, FITTED if record else FEW)
    p, _ = world(n, K, seed=8)
    many = n > 32
    contestants = {
        "defense": lambda: defense(p),
        "softmax": lambda: torch.softmax(p, 1),
        # Half a second and more for the largest number of rows.
        **(
            {}
            if n > 1024
            else {"plain scorer": plain_forward(p, Candidates.COUNT, SCORER_WIDTH, SCORER_OUTPUTS)}
        ),
    }
    q = defense(p)
    assert torch.equal(q.argmax(1), p.argmax(1)) and q.isfinite().all()
    versus(
        contestants,
        operation="defense",
        variant=None,
        objective=objective,
        group="defense" if many else "defense latency",
        n=n,
        k=K,
        dtype="float32",
        norm="l1",
        bytes=2 * p.nbytes,
        calls=1 if many else CALLS,
    )
