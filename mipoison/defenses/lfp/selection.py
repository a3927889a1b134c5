"""Which rows LFP flips, so that the given rate is met on fresh rows."""

from __future__ import annotations

import math
from typing import Any, Final

import torch
from torch import Tensor

from mipoison.ops import unchecked
from mipoison.ops.rows import label_of
from mipoison.ops.validation import as_number
from mipoison.surrogate import Surrogate

ROWS: Final = ("random", "margin", "leak")
# Standard deviation of the realised rate over sets of held-out rows, relative to the rate: three of them are 20 %.
_SPREAD: Final = 1 / 15


def as_ceiling(max_rate: Any, rate: float) -> float:
    """Checks the hard ceiling on the rate."""
    ceiling = as_number("max_rate", max_rate, 0.0, 1.0, open_low=True)
    if rate > ceiling:
        raise ValueError(
            f"expected rate <= max_rate={ceiling:g}, got {rate:g}; lower the rate or allow more"
        )
    return ceiling


def as_means(means: Any, surrogate: Surrogate) -> Tensor:
    """Checks the means that `label_means` gives.

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
    """Mean recovery of the surrogate for each label, or of all rows for a label without any; float32 [K, C]."""
    recovered, label = surrogate(p), label_of(p)
    overall = recovered.mean(0)
    rows = [recovered[label == t] for t in range(p.shape[1])]
    return torch.stack([some.mean(0) if len(some) else overall for some in rows])


def leaks(p: Tensor, surrogate: Surrogate, means: Tensor) -> Tensor:
    """Squared distance of a row's recovery from its label's mean recovery: ‖G(p) − Ḡ_t‖², [N]."""
    told = unchecked.recover(p, surrogate) - means[label_of(p)]
    return told.square().sum(-1).to(torch.float64)


def pool(scores: Tensor, rate: float, max_rate: float) -> tuple[float, float]:
    """A threshold on the score, and the probability with which the key flips a row below it.

    A threshold at the rate itself would be estimated from rate·n held-out scores, with a relative
    error of √(1/(rate·n)). So the pool of candidates is wider for fewer rows: a share s of the rows
    with relative error √((1 − s)/(s·n)) ≤ 1/15. In expectation a share k/(n + 1) of fresh,
    exchangeable scores lies below the k-th of n, so flipping each candidate with probability
    rate·(n + 1)/k meets the rate in expectation.

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
    # Half-way between two scores, so that last bits do not decide.
    above = ordered[min(below, n - 1)]
    return float(last + (above - last) / 2), min(rate * (n + 1) / below, max_rate)
