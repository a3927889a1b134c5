"""The other operations, and `step` from a point that is not its center; each with a new output."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from contestants import arguments, stepped, yardsticks
from oracle import assert_right
from rows import ALPHA, binding_radius, peaked
from torch import Tensor

KEY = torch.tensor([1, 2, 3, 4])
RATE = 0.01
EPSILON = 0.1


@dataclass(frozen=True)
class Case:
    """An operator, its arguments, and how many [n, k] tensors it must read and write at least."""

    operation: str
    given: tuple[Any, ...]
    tensors: int
    norm: str = "none"
    alpha: float | None = None
    epsilon: float | None = None


def target_of(p: Tensor) -> Tensor:
    """Rows with the labels of p and other entries: the next row, its largest entry put where p has its own."""
    target = p.roll(1, 0)
    label, largest = p.argmax(1, keepdim=True), target.argmax(1, keepdim=True)
    entry, top = target.gather(1, label), target.gather(1, largest)
    return target.scatter(1, largest, entry).scatter(1, label, top)


def free_project(p: Tensor, g: Tensor) -> Case:
    return Case("project", (stepped(p, g), None, None, math.inf, "l1", 0.0, False), 2)


def ball_project(p: Tensor, g: Tensor) -> Case:
    epsilon = binding_radius(p, g, "l1")
    given = (stepped(p, g), p, None, epsilon, "l1", 0.0, False)
    return Case("project", given, 3, norm="l1", epsilon=epsilon)


def second_step(p: Tensor, g: Tensor) -> Case:
    """What every gradient step but the first is: q is on its way, p stays the center."""
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
    "project, no ball": free_project,
    "project": ball_project,
    "step, q not p": second_step,
    "move, straight": move("straight"),
    "move, waterfill": move("waterfill"),
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
    assert_right(case.operation, result if case.operation == "row_bits" else result[0], *case.given)
    versus(
        {
            case.operation: lambda: operator(*case.given),
            **yardsticks(p, g, out),
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
