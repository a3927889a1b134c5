"""What the clean surrogate recovers of the defender's rows, in units that small networks learn well."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from mipoison.reference import label_of

# What the small networks predict: principal components of what the surrogate recovers.
COMPONENTS: Final = 31


@dataclass(frozen=True)
class Recovery:
    """Leading components of recovered inputs, their spread within a label brought to one.

    Attributes:
        offset: mean [D].
        basis: principal directions [COMPONENTS, D], zeros where there are fewer.
        spread: mean within-label variance of what is recovered of the rows.
    """

    offset: Tensor
    basis: Tensor
    spread: float

    @classmethod
    def of(cls, recovered: Tensor, clean: Tensor, rows: Tensor) -> Recovery:
        """Components of what is recovered [M, D] around the rows [N, K], of which clean [N, D] is."""
        offset = recovered.mean(0)
        centered = recovered - offset
        *_, directions = torch.linalg.svd(centered.T @ centered)
        basis = directions[:COMPONENTS]
        basis = torch.nn.functional.pad(basis, (0, 0, 0, COMPONENTS - len(basis)))
        return cls(offset, basis, _spread(clean, label_of(rows)))

    def reduced(self, recovered: Tensor) -> Tensor:
        """Of recovered inputs [..., D] the scaled components [..., COMPONENTS]."""
        return (recovered - self.offset) @ self.basis.T / math.sqrt(self.spread)

    def of_game(self, mean: Tensor, deviation: Tensor) -> Tensor:
        """What a network learns in place of a game's adversaries.

        Args:
            mean: what they recover of each candidate, [R, C, D].
            deviation: their mean squared deviation, [R, C].

        Returns:
            the scaled components and the root of the scaled deviation, [R · C, COMPONENTS + 1].
        """
        root = (deviation / self.spread).sqrt().reshape(-1, 1)
        return torch.cat((self.reduced(mean).flatten(0, 1), root), 1)


def _spread(clean: Tensor, label: Tensor) -> float:
    """Mean over the rows of the squared distance to their label's mean recovery."""
    total = clean.new_zeros(())
    for own in label.unique():
        part = clean[label == own]
        total = total + (part - part.mean(0)).square().sum()
    return max(float(total) / len(clean), 1e-12)
