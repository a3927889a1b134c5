"""Rounding of the confidences (Tramèr et al., Stealing machine learning models, 2016; IBM ART's `Rounded`)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from mipoison.defenses.baselines.reshaped import Reshaped
from mipoison.ops.validation import as_count


class Rounding(Reshaped):
    """Rounds each entry to some decimals and renormalises; a tie at the top is broken for the row's own label.

    Args:
        decimals: digits kept, ≥ 0. Rows that round to nothing are answered by their label alone.
        on_invalid: see `Defense`.
    """

    name: ClassVar[str] = "rounding"

    def __init__(self, decimals: int = 1, *, on_invalid: str = "raise") -> None:
        super().__init__(on_invalid=on_invalid)
        self.decimals = as_count("decimals", decimals, 0)

    def reshape(self, p: Tensor, label: Tensor) -> Tensor:
        """See `Reshaped.reshape`."""
        return torch.round(p, decimals=self.decimals)

    def extra_repr(self) -> str:
        """Settings."""
        return f"decimals={self.decimals}"
