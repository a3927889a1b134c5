"""Label-only: the upper bound of every label-preserving defense."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from mipoison.defenses.base import Defense
from mipoison.ops.rows import label_of


class LabelOnly(Defense):
    """Answers with the one-hot vector of the label, and reveals nothing else.

    Args:
        on_invalid: see `Defense`.
        margin: see `Defense`; a one-hot vector leads by more.

    Raises:
        TypeError: for a setting of a wrong kind.
        ValueError: for one out of its range.
    """

    name: ClassVar[str] = "label-only"

    def answer(self, p: Tensor) -> Tensor:
        """See `Defense.answer`."""
        return torch.zeros_like(p).scatter(-1, label_of(p).unsqueeze(-1), 1.0)
