"""A lower confidence bound for the mean variance within cells, by betting on pairs.

The bets are those of Waudby-Smith and Ramdas (JRSS B 2024), but fixed beforehand: then a cell's rows may all be paired,
whatever their number (docs/mathematics.md).
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

# The deviation of a pair's distance, as a share of its mean, that each player expects, and the player's share of the
# capital: two for pictures, two for inputs that differ rarely and much.
_PLAYERS: Final = {0.3: 0.4, 0.6: 0.4, 2.0: 0.1, 8.0: 0.1}
# The largest bet on a row. A row of a cell of three is paired with three times the bet, which must leave some capital.
_MOST: Final = 0.3
_HALVINGS: Final = 24


def lower_bound(distances: Tensor, weights: Tensor, alone: int, confidence: float) -> float:
    """The largest m that the pairs refute: with the confidence, the mean variance of a row's cell is at least as large.

    A player starts with a capital of 1. A pair at halved squared distance z, for w rows of its cell, multiplies it by
    1 + κ w (z/m − 1), and a row that is alone in its cell by 1 − κ. Where the mean variance is at most m, the expected
    capital is at most 1, so it ends beyond 1/δ with a probability of at most δ (Markov). A mean of several players'
    capitals has the same property.

    Args:
        distances: halved squared distances of disjoint pairs of rows of one cell, float64 [S, P], >= 0. Several lines
            are several pairings of the same rows.
        weights: rows of each pair's cell by its pairs, float64 [P], in [2, 3].
        alone: rows without another one in their cell.
        confidence: 1 − δ, in (0, 1).

    Returns:
        a number >= 0; 0 if nothing is refuted.
    """
    goal = -math.log1p(-confidence)
    rows = round(float(weights.sum())) + alone
    players = [
        (min(_MOST, math.sqrt(goal / rows) / deviation), math.log(share / len(distances)))
        for deviation, share in _PLAYERS.items()
    ]

    def refuted(m: float) -> bool:
        excess = weights * (distances / m - 1)
        capitals = [
            torch.log1p(bet * excess).sum(1) + alone * math.log1p(-bet) + share
            for bet, share in players
        ]
        return float(torch.logsumexp(torch.cat(capitals), 0)) >= goal

    # No capital grows where m is the mean of the pairs.
    low, high = 0.0, float((distances @ weights).max() / weights.sum()) if len(weights) > 0 else 0.0
    if high <= 0:
        return 0.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if refuted(middle):
            low = middle
        else:
            high = middle
    return low
