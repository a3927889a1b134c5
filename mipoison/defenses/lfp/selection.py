"""Which rows LFP flips, such that fresh rows flip at the rate that was asked for."""

from __future__ import annotations

import math
from typing import Any, Final

import torch
from torch import Tensor

from mipoison.ops.validation import as_number
from mipoison.reference import label_of
from mipoison.surrogate import Surrogate

ROWS: Final = ("random", "margin", "leak")
# Standard deviation of the realised rate over sets of held-out rows, as a share of the rate: three of them are 20 %.
_SPREAD: Final = 1 / 15


def as_ceiling(max_rate: Any, rate: float) -> float:
    """The hard ceiling, which a rate must not exceed."""
    ceiling = as_number("max_rate", max_rate, 0.0, 1.0, open_low=True)
    if rate > ceiling:
        raise ValueError(
            f"expected rate <= max_rate={ceiling:g}, got {rate:g}; lower the rate or allow more"
        )
    return ceiling


def as_means(means: Any, surrogate: Surrogate) -> Tensor:
    """What a surrogate recovers from each label, as `label_means` gives it.

    Raises:
        ValueError: if it is of another kind or shape.
    """
    shape = (surrogate.classes, surrogate.basis.shape[0])
    if not isinstance(means, Tensor) or tuple(means.shape) != shape:
        got = tuple(means.shape) if isinstance(means, Tensor) else type(means).__name__
        raise ValueError(
            f"expected means to be a tensor {shape}, one line a class of the surrogate, got {got}; use LFP.fit"
        )
    return means


def margins(p: Tensor) -> Tensor:
    """Lead of the largest entry over the second, [N]."""
    top = p.topk(2, dim=-1).values
    return top[:, 0] - top[:, 1]


def label_means(p: Tensor, surrogate: Surrogate) -> Tensor:
    """What the surrogate recovers from each label on average; of a label without rows, from all; float32 [K, C]."""
    recovered, label = surrogate(p), label_of(p)
    overall = recovered.mean(0)
    rows = [recovered[label == t] for t in range(p.shape[1])]
    return torch.stack([own.mean(0) if len(own) else overall for own in rows])


def leaks(p: Tensor, surrogate: Surrogate, means: Tensor) -> Tensor:
    """How far what the surrogate recovers from a row is from what its label alone tells: ‖G(p) − Ḡ_t‖², [N]."""
    told: Tensor = surrogate(p) - means[label_of(p)]
    return told.square().sum(-1).to(torch.float64)


def pool(scores: Tensor, rate: float, max_rate: float) -> tuple[float, float]:
    """A threshold, and the probability with which a row of at most this score is flipped by key.

    A threshold at the rate itself would rest on rate·n held-out scores and miss the rate by
    √(1/(rate·n)) of it. So the pool of candidates is wider, the less is known: of share s of the
    rows, with a spread √((1 − s)/(s·n)) ≤ 1/15. Of exchangeable scores the k-th of n has a share
    k/(n + 1) of fresh ones below it, hence flipping each candidate with probability
    rate·(n + 1)/k makes the rate the expectation.

    Args:
        scores: of distinct held-out rows, lowest first to flip, float64 [n], n ≥ 1.
        rate: share of fresh rows to flip, in [0, 1].
        max_rate: no less than the rate; what the probability must not exceed.

    Returns:
        the threshold (infinite where every row is a candidate) and the probability.
    """
    n = len(scores)
    share = max(1 / (1 + n * _SPREAD**2), rate / max_rate if rate > 0 else 0.0)
    k = math.ceil(share * (n + 1))
    if k >= n:
        return math.inf, rate
    ordered = scores.sort().values
    last = ordered[k - 1]
    below = int((scores <= last).sum())
    # Between two rows' scores, so that the last bits of neither decide.
    above = ordered[min(below, n - 1)]
    return float(last + (above - last) / 2), min(rate * (n + 1) / below, max_rate)
