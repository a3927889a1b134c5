"""Counts of LFP's flips, which show what it costs and nothing of what it answered."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from torch import Tensor

from mipoison.defenses.base import COUNTING


@dataclass
class Audit:
    """Rows seen and flipped since the defense was made; holds no vectors and is not saved.

    Attributes:
        rows: probability vectors answered, repeated ones each time.
        flipped: those answered under another label.
        by_label: how many were flipped away from each label.
    """

    rows: int = 0
    flipped: int = 0
    by_label: Counter[int] = field(default_factory=Counter)

    @property
    def rate(self) -> float:
        """Share of the rows seen that were flipped; 0 before the first."""
        return self.flipped / self.rows if self.rows else 0.0

    def record(self, labels: Tensor, served: Tensor) -> None:
        """Counts answers by their labels and the labels that were served, int64 [N] each."""
        flipped = labels[labels != served].tolist()
        with COUNTING:
            self.rows += len(labels)
            self.flipped += len(flipped)
            self.by_label.update(flipped)
