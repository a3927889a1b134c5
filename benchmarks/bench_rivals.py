"""Times `step` without a ball against other algorithms: sorting, sparsemax, Newton in torch and compiled, jaxopt.

They are too slow to run on all rows. They run on the first rows, which fit into the cache, and their seconds are scaled
to all rows. This favours them.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from contestants import (
    Step,
    arguments,
    by_jaxopt,
    by_reference,
    by_sorting,
    by_sparsemax,
    compiled_newton,
    newton,
    newton_steps,
    step_into,
)
from rows import ALPHA, SIZES, peaked
from torch import Tensor

RIVAL_ELEMENTS = 2_000_000
REFERENCE_ELEMENTS = 500_000
# Rivals reach the sum only to float32's rounding. Without a label constraint they are compared only where the label
# wins anyway.
CLOSE = 1e-5


def first_rows(x: Tensor, elements: int) -> Tensor:
    """The first rows of x, with about the given number of elements."""
    return x[: max(1, elements // x.shape[1])]


def assert_same_answer(rival: Step, p: Tensor, g: Tensor, keeps_label: bool) -> None:
    """Fails if a rival computes another answer than `step`; without `keeps_label`, on rows that keep their label."""
    theirs, ours = rival(p, g), torch.ops.mipoison.step(*arguments(p, g))[0]
    same = theirs.argmax(1) == p.argmax(1)
    if keeps_label:
        same = torch.ones_like(same)
    assert same.any() and torch.allclose(
        ours[same], theirs[same].to(ours.dtype), atol=CLOSE, rtol=0
    )


def race(
    versus: Callable[..., None], k: int, nbytes: int, rivals: dict[str, tuple[Step, int]]
) -> None:
    """Times `step` on all rows, and each rival (a function, and its number of elements) on the first rows."""
    p, g = peaked(k, nbytes)
    contestants: dict[str, Callable[[], object]] = {
        "step": step_into(torch.empty_like(p), *arguments(p, g))
    }
    rows_timed = {}
    for name, (rival, elements) in rivals.items():
        few = first_rows(p, elements), first_rows(g, elements)
        assert_same_answer(rival, *few, keeps_label="newton" in name or name == "reference")
        contestants[name] = lambda rival=rival, few=few: rival(*few)
        rows_timed[name] = len(few[0])
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
        bytes=3 * p.nbytes,
        rows_timed=rows_timed,
    )


@pytest.mark.parametrize("k", SIZES, ids=lambda k: f"K{k}")
def test_rivals(versus, nbytes: int, k: int) -> None:
    p, g = (first_rows(x, RIVAL_ELEMENTS) for x in peaked(k, nbytes))
    steps = newton_steps(p, g)
    # Each shape is compiled once; nothing is reused from earlier shapes.
    torch.compiler.reset()
    race(
        versus,
        k,
        nbytes,
        {
            "sort": (by_sorting, RIVAL_ELEMENTS),
            "sparsemax": (by_sparsemax, RIVAL_ELEMENTS),
            "newton": (newton(steps), RIVAL_ELEMENTS),
            "compiled newton": (compiled_newton(steps), RIVAL_ELEMENTS),
            "reference": (by_reference, REFERENCE_ELEMENTS),
        },
    )


@pytest.mark.parametrize("k", SIZES, ids=lambda k: f"K{k}")
def test_jaxopt(versus, nbytes: int, k: int) -> None:
    pytest.importorskip("jaxopt", reason="jaxopt is not installed; pip install jax jaxopt")
    race(versus, k, nbytes, {"jaxopt": (by_jaxopt(), RIVAL_ELEMENTS)})
