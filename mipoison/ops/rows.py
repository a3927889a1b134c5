"""Labels, leads and clean rows for defenses, without checks of the arguments; see `mipoison.reference.clean`."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mipoison import reference
from mipoison.exporting import exporting


def label_of(x: Tensor) -> Tensor:
    """Index of the largest entry of each row [N, K], of equal ones the lowest; int64 [N]."""
    if exporting():
        return reference.label_of(x)
    label: Tensor = torch.ops.mipoison.label_of(x)
    return label


def clean(p: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of 32 or 16 bits renormalised in float32, uniform where invalid; and the number of invalid ones."""
    rows, status = torch.ops.mipoison.clean(p)
    return rows, status


def lead(q: Tensor, p: Tensor) -> Tensor:
    """How far the label of p leads in q, both [N, K] of one dtype; float64 [N]."""
    ahead: Tensor = torch.ops.mipoison.lead(q, p)
    return ahead


def distance(q: Tensor, p: Tensor, norm: str) -> Tensor:
    """‖q − p‖ of rows [N, K] of one dtype; float64 [N]."""
    length: Tensor = torch.ops.mipoison.distance(q, p, norm)
    return length


def stray(
    q: Tensor, p: Tensor, norm: str, *, least: float = 0.0, most: float, ahead: float = -math.inf
) -> tuple[Tensor, Tensor]:
    """Rows of q not from `least` to `most` away from p's, or led by p's label by less than `ahead`; how many there are.

    bool [N] and int64.
    """
    strays, count = torch.ops.mipoison.stray(q, p, norm, least, most, ahead)
    return strays, count


def lose_label(q: Tensor, given: Tensor, label: Tensor, first: int, last: int) -> Tensor:
    """Rows of q [N, K] that lose their label in a cast or rounding in which the given ones keep it; bool [N]."""
    lost: Tensor = torch.ops.mipoison.lose_label(q, given, label, first, last)
    return lost


def soften(p: Tensor, temperature: float, floor: float) -> Tensor:
    """p^(1/temperature), normalised; float32 [N, K]."""
    softened: Tensor = torch.ops.mipoison.soften(p, temperature, floor)
    return softened
