"""Bring features to mean 0 and deviation 1, as a network wants them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# Standardised features beyond this many deviations are cut: a value the network never saw in
# training (a defended vector, for an adversary trained on clean ones) must not blow up.
_LIMIT = 8.0


@dataclass(frozen=True)
class Standards:
    """Mean and inverse deviation of each feature of E systems, ``[E, 1, F]``.

    Attributes:
        centre: subtracted.
        scale: multiplied; 0 for a feature that never varied, which carries no weight that was
            ever learnt.

    Example:
        >>> seen = torch.tensor([[[1.0, 5.0], [3.0, 5.0]]])
        >>> Standards.of(seen).apply(torch.tensor([[[2.0, 9.0], [99.0, 5.0]]]))
        tensor([[[0., 0.],
                 [8., 0.]]])
    """

    centre: Tensor
    scale: Tensor

    @classmethod
    def of(cls, features: Tensor) -> Standards:
        """Measures the features of the rows that a network trains on, ``[E, n, F]``."""
        deviation = features.std(1, keepdim=True)
        scale = torch.where(deviation > 1e-6, 1.0 / deviation, 0.0)
        return cls(features.mean(1, keepdim=True), scale)

    def apply(self, features: Tensor) -> Tensor:
        """Standardises ``[E, m, F]`` and cuts what lies more than 8 deviations away."""
        scaled: Tensor = (features - self.centre) * self.scale
        return scaled.clamp(-_LIMIT, _LIMIT)

    def member(self, index: int) -> Standards:
        """Returns the standards of one of the E systems."""
        return Standards(self.centre[index : index + 1], self.scale[index : index + 1])
