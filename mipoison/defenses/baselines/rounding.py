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
    """Rounds each entry to some decimals and renormalises; a tie at the top goes to the row's label.

    The rows are rounded as given and in their dtype, half-way entries to the even digit, as `numpy.round` does. Rows in
    bfloat16, and in float16 beyond four decimals, are rounded in float32.

    Args:
        decimals: digits kept, ≥ 0. A row whose entries all round to zero is answered with its label only.
        on_invalid: see `Defense`.
        margin: see `Defense`.

    Raises:
        TypeError: for a setting of a wrong kind.
        ValueError: for one out of its range.
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
        # In the rows' dtype, as NumPy rounds: the dtype decides which entries lie half-way.
        dtype = given.dtype
        if dtype == torch.bfloat16 or not _scales(dtype, self.decimals):
            # Products in this dtype would make new ties, or overflow.
            given, dtype = given.to(torch.float32), torch.float32
        if not _scales(dtype, self.decimals):
            return p
        scale = 10.0**self.decimals
        return (torch.round(given * scale) / scale).to(torch.float64)

    def extra_repr(self) -> str:
        """Settings."""
        return f"decimals={self.decimals}"
