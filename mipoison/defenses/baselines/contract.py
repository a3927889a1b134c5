"""Contract: moves rows toward the center of their label, so that rows of one label look alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from mipoison import ops
from mipoison.construction import constructor
from mipoison.defenses.base import Defense
from mipoison.defenses.clean import as_dtype, defender_rows
from mipoison.defenses.saving import Restore
from mipoison.neutral import neutrally
from mipoison.ops.rows import label_of
from mipoison.ops.validation import as_choice, as_number, require_probabilities
from mipoison.reference.move import STYLES


def label_centers(p: Tensor, center: str) -> Tensor:
    """A vector for each label: the mean or the coordinate-wise median of its rows; float32 [K, K].

    A label without rows gets the middle between its vertex and the uniform row.

    Args:
        p: clean rows, [N, K].
        center: "median" or "mean".
    """
    k, label = p.shape[1], label_of(p)
    rows = p.to(torch.float64)
    centers = (torch.eye(k, dtype=torch.float64, device=p.device) + 1 / k) / 2
    for t in range(k):
        some = rows[label == t]
        if len(some) > 0:
            middle = some.quantile(0.5, dim=0) if center == "median" else some.mean(0)
            centers[t] = middle / middle.sum()
    labels = torch.arange(k, device=p.device)
    return as_dtype(ops.project(centers, label=labels), torch.float32, labels)


def _require_labels(centers: Tensor) -> None:
    """Raises ValueError unless there is one center for each label, in their order."""
    if label_of(centers).tolist() != list(range(centers.shape[1])):
        raise ValueError(
            f"expected centers [K, K] of the labels 0 to K − 1, got {tuple(centers.shape)} of the labels "
            f"{label_of(centers[:5]).tolist()}…; use Contract.fit"
        )


class Contract(Defense):
    """Moves each row toward its label's center, at most ε in l1; rows nearer than ε become the center.

    Needs no key: an answer tells how far outside the ball a row lies, and in which direction.

    Args:
        centers: for each label a probability vector of that label, float32 [K, K]; `Contract.fit`
            finds them.
        epsilon: hard cap on the row's move, l1, in [0, 2].
        style: "straight", "waterfill" or "sparse", see `mipoison.move`.
        on_invalid: see `Defense`.
        margin: see `Defense`.

    Raises:
        ValueError: for wrong ranges, or centers of other labels.
    """

    name: ClassVar[str] = "contract"
    saved: ClassVar[tuple[str, ...]] = ("epsilon", "style")
    parts: ClassVar[Mapping[str, Restore | None]] = {"centers": None}
    centers: Tensor

    def __init__(
        self,
        centers: Any,
        *,
        epsilon: float = 0.2,
        style: str = "straight",
        on_invalid: str = "raise",
        margin: float = 1e-3,
    ) -> None:
        super().__init__(on_invalid=on_invalid, margin=margin)
        rows = defender_rows(centers, "centers")
        _require_labels(rows)
        self.register_buffer("centers", as_dtype(rows, torch.float32))
        self.epsilon = as_number("epsilon", epsilon, 0.0, 2.0)
        self.style = as_choice("style", style, STYLES)

    def check_state(self, tensors: Mapping[str, Tensor]) -> None:
        """See `DtypeStable.check_state`."""
        require_probabilities("centers", tensors["centers"])
        _require_labels(tensors["centers"])

    @property
    def ball(self) -> tuple[float, str]:
        """See `Defense.ball`."""
        return self.epsilon, "l1"

    @property
    def classes(self) -> int:
        """K of the centers."""
        return self.centers.shape[1]

    @constructor
    @neutrally
    def fit(cls, outputs: Any, *, center: str = "median", **settings: Any) -> Contract:
        """Finds the centers of the defender's non-private outputs [N, K].

        Args:
            outputs: undefended confidence vectors; tensor or array.
            center: "median" (coordinate-wise) or "mean" of each label's rows.
            settings: as in `Contract`.

        Raises:
            TypeError: for a wrong kind or dtype.
            ValueError: for wrong shapes or ranges, no rows, or rows that are no probability
                vectors.

        Example:
            >>> p = torch.softmax(torch.randn(64, 5), 1)
            >>> len(Contract.fit(p, epsilon=2.0)(p).unique(dim=0)) <= 5
            True
        """
        as_choice("center", center, ("median", "mean"))
        return cls(label_centers(defender_rows(outputs), center), **settings)

    def answer(self, p: Tensor) -> Tensor:
        """See `Defense.answer`."""
        target = self.centers[label_of(p)].to(p.dtype)
        return ops.move(p, target, epsilon=self.epsilon, style=self.style, validate=False)

    def extra_repr(self) -> str:
        """Settings."""
        return f"epsilon={self.epsilon:g}, style={self.style!r}"
