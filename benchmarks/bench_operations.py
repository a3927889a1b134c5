"""Times the other operations, and `step` from a point that is not its center. Each call makes a new output."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from contestants import arguments, baselines, stepped
from distributions import relabelled
from oracle import assert_matches_reference
from rows import ALPHA, binding_radius, peaked
from torch import Tensor

KEY = torch.tensor([1, 2, 3, 4])
RATE = 0.01
EPSILON = 0.1


@dataclass(frozen=True)
class Case:
    """An operator, its arguments, and the least number of [n, k] tensors that it reads and writes."""

    operation: str
    given: tuple[Any, ...]
    tensors: int
    norm: str = "none"
    alpha: float | None = None
    epsilon: float | None = None


def target_of(p: Tensor) -> Tensor:
    """Rows with the labels of p and other entries: the next row of p, its largest entry swapped to the label of p."""
    return relabelled(p.roll(1, 0), p.argmax(1))


def project_without_ball(p: Tensor, g: Tensor) -> Case:
    return Case("project", (stepped(p, g), None, None, math.inf, "l1", 0.0, False), 2)


def project_with_ball(p: Tensor, g: Tensor) -> Case:
    epsilon = binding_radius(p, g, "l1")
    given = (stepped(p, g), p, None, epsilon, "l1", 0.0, False)
    return Case("project", given, 3, norm="l1", epsilon=epsilon)


def second_step(p: Tensor, g: Tensor) -> Case:
    """A gradient step after the first: q has left the center p."""
    epsilon = binding_radius(p, g, "l1")
    q = torch.ops.mipoison.step(*arguments(p, -g, epsilon))[0]
    return Case("step", arguments(q, g, epsilon, center=p), 4, "l1", ALPHA, epsilon)


def move(style: str) -> Callable[[Tensor, Tensor], Case]:
    return lambda p, g: Case(
        "move", (p, target_of(p), EPSILON, "l1", style), 3, norm="l1", epsilon=EPSILON
    )


def flip(style: str) -> Callable[[Tensor, Tensor], Case]:
    return lambda p, g: Case("flip", (p, None, RATE, KEY, style), 2)


def row_bits(grid: float) -> Callable[[Tensor, Tensor], Case]:
    return lambda p, g: Case("row_bits", (p, KEY, 0, grid, 4), 1)


CASES = {
    "project, no ball": project_without_ball,
    "project": project_with_ball,
    "step, q not p": second_step,
    "move, straight": move("straight"),
    "move, waterfill": move("waterfill"),
    "move, sparse": move("sparse"),
    "flip, swap": flip("swap"),
    "flip, project": flip("project"),
    "row_bits, exact": row_bits(0.0),
    "row_bits, grid 0.1": row_bits(0.1),
}


@pytest.mark.parametrize("variant", CASES)
@pytest.mark.parametrize("k", [10, 100, 1000], ids=lambda k: f"K{k}")
def test_operation(versus, nbytes: int, k: int, variant: str) -> None:
    p, g = peaked(k, nbytes)
    case, out = CASES[variant](p, g), torch.empty_like(p)
    operator = getattr(torch.ops.mipoison, case.operation)
    result = operator(*case.given)
    assert_matches_reference(
        case.operation, result if case.operation == "row_bits" else result[0], *case.given
    )
    versus(
        {
            case.operation: lambda: operator(*case.given),
            **baselines(p, g, out),
        },
        operation=case.operation,
        variant=variant,
        group="throughput",
        n=len(p),
        k=k,
        dtype="float32",
        norm=case.norm,
        alpha=case.alpha,
        epsilon=case.epsilon,
        touching=None,
        bytes=case.tensors * p.nbytes,
    )
