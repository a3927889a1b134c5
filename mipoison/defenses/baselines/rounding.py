"""Rounding of the confidences (Tramèr et al., Stealing machine learning models, 2016; IBM ART's `Rounded`)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from mipoison import ops
from mipoison.defenses.base import Defense, as_dtype
from mipoison.reference import label_of


class Rounding(Defense):
    """Rounds each entry to some decimals and renormalises; a tie at the top is broken for the row's own label.

    Args:
        decimals: digits kept, ≥ 0. Rows that round to nothing are answered by their label alone.
        on_invalid: see `Defense`.
    """

    name: ClassVar[str] = "rounding"

    def __init__(self, decimals: int = 1, *, on_invalid: str = "raise") -> None:
        super().__init__(on_invalid=on_invalid)
        if isinstance(decimals, bool) or not isinstance(decimals, int) or decimals < 0:
            raise ValueError(f"expected decimals to be an int >= 0, got {decimals!r}")
        self.decimals = decimals

    def answer(self, p: Tensor) -> Tensor:
        """See `Defense.answer`."""
        label = label_of(p)
        rounded = torch.round(p.to(torch.float64), decimals=self.decimals)
        total = rounded.sum(-1, keepdim=True)
        alone = torch.zeros_like(rounded).scatter(-1, label.unsqueeze(-1), 1.0)
        row = torch.where(total > 0, rounded / total, alone)
        return as_dtype(ops.project(row, label=label), p.dtype, label)

    def extra_repr(self) -> str:
        """Settings."""
        return f"decimals={self.decimals}"
