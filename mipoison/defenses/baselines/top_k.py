"""Top-k: only the largest confidences are kept (Fredrikson et al., 2015; the truncation of Yang et al., CCS 2019)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from mipoison.defenses.baselines.reshaped import Reshaped
from mipoison.ops.validation import as_count


class TopK(Reshaped):
    """Keeps the k largest entries, sets the others to zero and renormalises.

    Args:
        k: entries kept, ≥ 1; of equal ones those of lower index. k = 1 tells only the label, k ≥ K
            everything.
        on_invalid: see `Defense`.
        margin: see `Defense`.

    Raises:
        TypeError: for a setting of a wrong kind.
        ValueError: for one out of its range.

    Example:
        >>> import torch
        >>> TopK(2)(torch.tensor([[0.6, 0.1, 0.2, 0.1]]))
        tensor([[0.7500, 0.0000, 0.2500, 0.0000]])
    """

    name: ClassVar[str] = "top-k"
    saved: ClassVar[tuple[str, ...]] = ("k",)

    def __init__(self, k: int = 3, *, on_invalid: str = "raise", margin: float = 1e-3) -> None:
        super().__init__(on_invalid=on_invalid, margin=margin)
        self.k = as_count("k", k, 1)

    def reshape(self, p: Tensor, label: Tensor, given: Tensor) -> Tensor:
        """See `Reshaped.reshape`."""
        largest = given.sort(dim=-1, descending=True, stable=True).indices[:, : self.k]
        return torch.zeros_like(p).scatter(-1, largest, p.gather(-1, largest))

    def extra_repr(self) -> str:
        """Settings."""
        return f"k={self.k}"
