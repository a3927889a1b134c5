"""What every defense shares: the edge where rows come in, and failing closed."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mipoison.ops.answers import Rows, like
from mipoison.ops.validation import as_choice, as_rows, require_probabilities
from mipoison.reference import label_of, valid_rows
from mipoison.reference.rounding import safe_answer


class Defense(nn.Module):
    """A map from outputs to outputs, row by row; subclasses write `answer`.

    Args:
        on_invalid: what happens to a row that is no probability vector. "raise": `ValueError`
            naming the first ones. "label": the row is answered with its label alone (one-hot;
            uniform where it holds NaN or Inf) and counted in `failures`. No setting lets the row
            itself out.

    Attributes:
        name: how the defense is called in reports.
        failures: rows answered by "label" so far.
    """

    name: ClassVar[str]

    def __init__(self, *, on_invalid: str = "raise") -> None:
        super().__init__()
        self.on_invalid = as_choice("on_invalid", on_invalid, ("raise", "label"))
        self.failures = 0

    @property
    def classes(self) -> int | None:
        """K of the data it was fitted on; None where any K will do."""
        return None

    @abstractmethod
    def answer(self, p: Tensor) -> Tensor:
        """Defends rows known to be probability vectors: [N, K] → [N, K] of the same dtype."""

    def forward(self, outputs: Rows) -> Rows:
        """Defends a batch of outputs.

        Args:
            outputs: confidence vectors, [N, K]; float32, float64, float16 or bfloat16; tensor or
                ndarray.

        Returns:
            the defended rows, [N, K] of the same kind and dtype, without gradient.

        Raises:
            TypeError: for a wrong kind or dtype.
            ValueError: for a wrong shape or, with on_invalid="raise", rows that are no probability
                vectors.
        """
        p = as_rows("outputs", outputs).detach()
        if self.classes is not None and p.shape[1] != self.classes:
            raise ValueError(
                f"expected outputs with K={self.classes} classes, as fitted, got K={p.shape[1]}"
            )
        with torch.no_grad():
            valid = valid_rows(p)
            if bool(valid.all()):
                return like(self.answer(p), outputs)
            if self.on_invalid == "raise":
                require_probabilities("outputs", p)
            keep = valid.unsqueeze(-1)
            answered = self.answer(torch.where(keep, p, 1.0 / p.shape[1]))
            self.failures += int((~valid).sum())
            return like(torch.where(keep, answered, safe_answer(p, label_of(p), p.dtype)), outputs)

    def __call__(self, outputs: Any) -> Any:
        """Defends a batch of outputs; see `forward`."""
        return super().__call__(outputs)
