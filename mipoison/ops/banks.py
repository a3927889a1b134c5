"""Operations on rows and the bank vectors of their labels, without checks of the arguments.

See `mipoison.reference.bank` and `mipoison.reference.choose_move`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Grouped(NamedTuple):
    """Vectors grouped by label, float32 [M, K], with where each label's begin and how many there are, int64 [K].

    A vector within same + noise · (1 − p_t) of a row p counts as the row itself.
    """

    vectors: Tensor
    starts: Tensor
    counts: Tensor
    same: float
    noise: float


def solitary(p: Tensor, bank: Grouped, spread: Tensor) -> Tensor:
    """The rows whose label has no vector but the row itself; bool [N]."""
    found: Tensor = torch.ops.mipoison.solitary(p, *bank, spread)
    return found


def pick_each(p: Tensor, bank: Grouped, words: Tensor) -> tuple[Tensor, Tensor]:
    """For each keyed word [N, W] a vector of the row's label: float32 [N, W, K], and its place, int64 [N, W]."""
    vectors, places = torch.ops.mipoison.pick_each(p, *bank, words)
    return vectors, places


def nearest(p: Tensor, bank: Grouped, word: Tensor, *, slots: int, subsets: int) -> Tensor:
    """The nearest vector of the row's label in each of nested keyed subsets: float32 [N, subsets, K]."""
    vectors: Tensor = torch.ops.mipoison.nearest(p, *bank, word, slots, subsets)
    return vectors


def choose_move(
    p: Tensor,
    bank: Grouped,
    predicted: Tensor,
    recovered: Tensor,
    words: Tensor,
    *,
    slots: int,
    epsilon: float,
    norm: str,
    weight: float,
    root: bool,
) -> tuple[Tensor, Tensor]:
    """The place of the vector that it is worth most to move toward, int64 [N], and the share of the way [N]."""
    place, share = torch.ops.mipoison.choose_move(
        p, *bank, predicted, recovered, words, slots, epsilon, norm, weight, root
    )
    return place, share


def approach(p: Tensor, vectors: Tensor, places: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
    """Rows [N, K] a share [N] of the way to the vectors at places [N], see `reference.choose_move.approach`.

    [N, K] of p's dtype, and how many rows have no vector.
    """
    rows, nowhere = torch.ops.mipoison.approach(p, vectors, places, shares)
    return rows, nowhere
