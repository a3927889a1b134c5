"""The clean surrogate's recovery of the defender's rows, reduced and scaled for small networks to learn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from mipoison.ops.rows import label_of

# The small networks predict this many principal components of the surrogate's recovery.
COMPONENTS: Final = 31


@dataclass(frozen=True)
class Recovery:
    """Leading components of recovered inputs, scaled to a within-label spread of one.

    Attributes:
        offset: mean [D].
        basis: principal directions [COMPONENTS, D], zeros where there are fewer.
        spread: mean within-label variance of the recovery of the rows.
    """

    offset: Tensor
    basis: Tensor
    spread: float

    @classmethod
    def of(cls, recovered: Tensor, clean: Tensor, rows: Tensor) -> Recovery:
        """Computes the components of recoveries [M, D] around the rows [N, K], whose own recovery is clean [N, D]."""
        offset = recovered.mean(0)
        centered = recovered - offset
        *_, directions = torch.linalg.svd(centered.T @ centered)
        basis = directions[:COMPONENTS]
        basis = torch.nn.functional.pad(basis, (0, 0, 0, COMPONENTS - len(basis)))
        return cls(offset, basis, _spread(clean, label_of(rows)))

    def reduced(self, recovered: Tensor) -> Tensor:
        """The scaled components [..., COMPONENTS] of recovered inputs [..., D]."""
        return (recovered - self.offset) @ self.basis.T / math.sqrt(self.spread)

    def of_game(self, mean: Tensor, deviation: Tensor) -> Tensor:
        """The targets of a network that replaces a game's adversaries.

        Args:
            mean: their mean recovery of each candidate, [R, C, D].
            deviation: their mean squared deviation, [R, C].

        Returns:
            the scaled components and the root of the scaled deviation, [R · C, COMPONENTS + 1].
        """
        root = (deviation / self.spread).sqrt().reshape(-1, 1)
        return torch.cat((self.reduced(mean).flatten(0, 1), root), 1)


def _spread(clean: Tensor, label: Tensor) -> float:
    """Mean over the rows of the squared distance to their label's mean recovery."""
    total = clean.new_zeros(())
    for t in label.unique():
        part = clean[label == t]
        total = total + (part - part.mean(0)).square().sum()
    return max(float(total) / len(clean), 1e-12)
