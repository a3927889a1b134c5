"""Lower confidence bounds for the mean of bounded numbers, by betting (Waudby-Smith and Ramdas, JRSS B 2024)."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

# A bet is at most this share of what could be lost.
_MOST: Final = 0.9
# The deviation that bets are scaled by before any number is seen, as a share of the largest number.
_DEVIATION: Final = 0.1
_HALVINGS: Final = 24


def lower_bound(samples: Tensor, most: float, confidence: float) -> float:
    """The largest m that the samples refute as a mean: with the confidence, the mean is at least as large.

    A player starts with a capital of 1 and bets on numbers above m: a number z multiplies it by 1 + λ (z − m). Where
    the mean is at most m, given what came before, the expected capital never grows, and ends beyond 1/δ with a
    probability of at most δ (Markov). A mean of several players' capitals has the same property.

    Args:
        samples: float64 [S, n], in [0, most], each line in random order. Several lines may be divisions of one data
            set: the mean of their capitals counts.
        most: upper bound of the numbers, > 0.
        confidence: 1 − δ, in (0, 1).

    Returns:
        a number in [0, most]; 0 if nothing is refuted.
    """
    goal = -math.log1p(-confidence)
    bets = _bets(samples, most, goal)

    def refuted(m: float) -> bool:
        # The capital falls with m: the bets do not depend on it, but for their cap.
        capital = torch.log1p(bets.clamp_max(_MOST / m) * (samples - m)).sum(1)
        return float(torch.logsumexp(capital, 0)) - math.log(len(samples)) >= goal

    low, high = 0.0, most
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if refuted(middle):
            low = middle
        else:
            high = middle
    return low


def _bets(samples: Tensor, most: float, goal: float) -> Tensor:
    """λ before each number, from the numbers before it alone: √(2 ln(1/δ) / (n σ²)); float64 [S, n]."""
    n = samples.shape[1]
    count = torch.arange(1, n + 1, dtype=torch.float64, device=samples.device)
    mean = samples.cumsum(1) / count
    first = (_DEVIATION * most) ** 2
    seen = (first + (samples - mean).square().cumsum(1)) / (count + 1)
    before = torch.cat((torch.full_like(seen[:, :1], first), seen[:, :-1]), 1)
    return (2 * goal / (n * before)).sqrt()
