"""Rounding of the confidences (Tramèr et al., Stealing machine learning models, 2016; IBM ART's `Rounded`)."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from mipoison.defenses.baselines.reshaped import Reshaped
from mipoison.ops.validation import as_count


def _scales(dtype: torch.dtype, decimals: int) -> bool:
    """Whether the dtype holds 10^decimals."""
    return decimals <= math.log10(torch.finfo(dtype).max)


class Rounding(Reshaped):
    """Rounds each entry to some decimals and renormalises; a tie at the top is broken for the row's own label.

    The rows are rounded as they come and in their own dtype, half-way entries to the even digit, as `numpy.round` does;
    bfloat16 rows, and float16 rows beyond four decimals, in float32.

    Args:
        decimals: digits kept, ≥ 0. Rows that round to nothing are answered by their label alone.
        on_invalid: see `Defense`.
        margin: see `Defense`.
    """

    name: ClassVar[str] = "rounding"
    saved: ClassVar[tuple[str, ...]] = ("decimals",)

    def __init__(
        self, decimals: int = 1, *, on_invalid: str = "raise", margin: float = 1e-3
    ) -> None:
        super().__init__(on_invalid=on_invalid, margin=margin)
        self.decimals = as_count("decimals", decimals, 0)

    def reshape(self, p: Tensor, label: Tensor, given: Tensor) -> Tensor:
        """See `Reshaped.reshape`."""
        # In the rows' own dtype, as NumPy rounds: which entries lie half-way is a matter of their digits.
        dtype = given.dtype
        if dtype == torch.bfloat16 or not _scales(dtype, self.decimals):
            # Whose products would make ties of their own, or overflow.
            given, dtype = given.to(torch.float32), torch.float32
        if not _scales(dtype, self.decimals):
            return p
        scale = 10.0**self.decimals
        return (torch.round(given * scale) / scale).to(torch.float64)

    def extra_repr(self) -> str:
        """Settings."""
        return f"decimals={self.decimals}"
