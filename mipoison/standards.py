"""Standardise what small networks read, so that values which they never saw cannot blow up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

# Beyond this many deviations features are cut: a network extrapolates from a value that it never saw in training, and
# one such row would count more than all others.
_LIMIT: Final = 8.0
# Features that vary by less never vary.
_VARIES: Final = 1e-6
# Entries have one unit, and so have their logarithms. None is divided by less than this share of the largest deviation
# of its kind.
_SHARES: Final = 1 / 5, 1 / 8


def feature_standards(x: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Mean of every column of [p, log p], [N, F], and what it is divided by: its deviation, or a share of the largest.

    Of a thousand classes most hardly ever come. Divided by its own deviation, the entry of such a class would lie a
    thousand deviations away in a row of that class, where networks say anything.

    Args:
        x: features of N ≥ 2 rows, as `features` makes them: K entries, K logarithms, and zeros.
        classes: K.
    """
    deviation = x.std(0)
    least = torch.full_like(deviation, _VARIES)
    for start, share in zip((0, classes), _SHARES, strict=True):
        kind = slice(start, start + classes)
        least[kind] = (share * deviation[kind].max()).clamp_min(_VARIES)
    return x.mean(0), torch.maximum(deviation, least)


@dataclass(frozen=True)
class Standardizer:
    """Mean and inverse deviation of each feature of E networks, ``[E, 1, F]``.

    Attributes:
        center: subtracted.
        scale: multiplied; 0 for a feature that never varied, which carries no weight that was
            ever learnt.

    Example:
        >>> seen = torch.tensor([[[1.0, 5.0], [3.0, 5.0]]])
        >>> Standardizer.of(seen).apply(torch.tensor([[[2.0, 9.0], [99.0, 5.0]]]))
        tensor([[[0., 0.],
                 [8., 0.]]])
    """

    center: Tensor
    scale: Tensor

    @classmethod
    def of(cls, features: Tensor) -> Standardizer:
        """Measures the features of the rows that a network trains on, ``[E, n, F]``."""
        deviation = features.std(1, keepdim=True)
        scale = torch.where(deviation > _VARIES, 1.0 / deviation, 0.0)
        return cls(features.mean(1, keepdim=True), scale)

    def apply(self, features: Tensor) -> Tensor:
        """Standardises ``[E, m, F]`` and cuts what lies more than 8 deviations away."""
        scaled: Tensor = (features - self.center) * self.scale
        return scaled.clamp(-_LIMIT, _LIMIT)

    def member(self, index: int) -> Standardizer:
        """Returns the standards of one of the E networks."""
        return Standardizer(self.center[index : index + 1], self.scale[index : index + 1])
