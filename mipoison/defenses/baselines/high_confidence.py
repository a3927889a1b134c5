"""High confidence: entries below a cutoff become zero (IBM ART's `HighConfidence`)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from mipoison.defenses.baselines.reshaped import Reshaped
from mipoison.ops.validation import as_number


class HighConfidence(Reshaped):
    """Sets entries below a cutoff to zero and renormalises, which ART leaves to the client.

    Args:
        cutoff: in (0, 1], rounded to the rows' dtype and compared with the rows as given. A row
            with no entry as large is answered with its label only.
        on_invalid: see `Defense`.
        margin: see `Defense`.

    Raises:
        TypeError: for a setting of a wrong kind.
        ValueError: for one out of its range.

    Example:
        >>> import torch
        >>> HighConfidence(cutoff=0.2)(torch.tensor([[0.6, 0.1, 0.2, 0.1]]))
        tensor([[0.7500, 0.0000, 0.2500, 0.0000]])
    """

    name: ClassVar[str] = "high confidence"
    saved: ClassVar[tuple[str, ...]] = ("cutoff",)

    def __init__(
        self, *, cutoff: float = 0.1, on_invalid: str = "raise", margin: float = 1e-3
    ) -> None:
        super().__init__(on_invalid=on_invalid, margin=margin)
        self.cutoff = as_number("cutoff", cutoff, 0.0, 1.0, open_low=True)

    def reshape(self, p: Tensor, label: Tensor, given: Tensor) -> Tensor:
        """See `Reshaped.reshape`."""
        # In the rows' dtype, as ART compares: an entry of float32(0.1) is not below 0.1.
        cutoff = torch.full((), self.cutoff, dtype=given.dtype, device=given.device)
        return torch.where(given < cutoff, 0.0, p)

    def extra_repr(self) -> str:
        """Settings."""
        return f"cutoff={self.cutoff:g}"
