"""Reverse sigmoid (Lee et al., Defending against model stealing with deceptive perturbations, 2018; IBM ART's form)."""

from __future__ import annotations

from typing import ClassVar, Final

import torch
from torch import Tensor

from mipoison.defenses.baselines.reshaped import Reshaped
from mipoison.ops.elementwise import entrywise
from mipoison.ops.validation import as_number

# ART clips confidences here before it takes their logits.
_CLIP: Final = 1e-9


class ReverseSigmoid(Reshaped):
    """Subtracts β·(σ(γ·logit p) − ½) from each entry, clips to [0, 1] and renormalises.

    Large entries shrink and small ones grow, so that different confidences give similar answers.
    In the source another entry may overtake the label; here the label is kept.

    Args:
        beta: magnitude β ≥ 0.
        gamma: convergence γ > 0, how fast the perturbation saturates away from ½.
        on_invalid: see `Defense`.
        margin: see `Defense`.

    Raises:
        TypeError: for a setting of a wrong kind.
        ValueError: for one out of its range.
    """

    name: ClassVar[str] = "reverse sigmoid"
    saved: ClassVar[tuple[str, ...]] = ("beta", "gamma")

    def __init__(
        self,
        *,
        beta: float = 1.0,
        gamma: float = 0.1,
        on_invalid: str = "raise",
        margin: float = 1e-3,
    ) -> None:
        super().__init__(on_invalid=on_invalid, margin=margin)
        self.beta = as_number("beta", beta, 0.0)
        self.gamma = as_number("gamma", gamma, 0.0, open_low=True)

    def reshape(self, p: Tensor, label: Tensor, given: Tensor) -> Tensor:
        """See `Reshaped.reshape`."""
        logits = entrywise(lambda x: torch.logit(x, eps=_CLIP), p)
        pushed = entrywise(torch.sigmoid, self.gamma * logits)
        return (p - self.beta * (pushed - 0.5)).clamp(0.0, 1.0)

    def extra_repr(self) -> str:
        """Settings."""
        return f"beta={self.beta:g}, gamma={self.gamma:g}"
