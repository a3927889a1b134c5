"""Objectives that put a price on moves: rows may stay, and the mean move is the budget."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Final

import torch
from torch import Tensor

from mipoison.defenses.lpa.objective import Objective
from mipoison.progress import Progress
from mipoison.reference import label_of


class Priced(Objective):
    """Chooses the answer whose harm to adversaries, less the price of its move, is largest.

    Attributes:
        price: λ of an l1 move.
        budget: mean l1 move that the price was set for.
        error: "root" or "squared" error of the adversaries.
        grid: cell width of the key's hash, in units of confidence.
    """

    may_stay: ClassVar[bool] = True
    price: float
    budget: float
    error: str
    grid: float

    @classmethod
    @abstractmethod
    def fit(
        cls,
        rows: Tensor,
        inputs: Any,
        *,
        budget: float,
        epsilon: float,
        norm: str,
        error: str = "root",
        seed: int = 0,
        progress: Progress,
    ) -> Priced:
        """Fits on the defender's own rows [N, K] and what is behind them."""

    def get_extra_state(self) -> Tensor:
        """The numbers that belong to the tensors of a state_dict: price and budget."""
        return torch.tensor([self.price, self.budget], dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        """Takes what `get_extra_state` gave."""
        self.price, self.budget = state.tolist()

    def settings(self) -> dict[str, Any]:
        """See `Objective.settings`."""
        return {
            "price": self.price,
            "error": self.error,
            "budget": self.budget,
            "grid": self.grid,
        }


def require_pairs(rows: Tensor) -> None:
    """Raises ValueError where the labels that occur have fewer than two rows each, on average.

    A row alone with its label has nothing to be mistaken for. Among many labels a few such rows are no reason to
    refuse: they move as those of an empty bank do.
    """
    labels = len(label_of(rows).unique())
    if len(rows) < 2 * labels:
        raise ValueError(
            f"expected at least 2 outputs a label that occurs, got {len(rows)} of {labels} labels; add rows"
        )


# How much shorter than asked for a move may come out.
ROUNDING: Final = 1e-3


def require_reach(farthest: float, budget: float, epsilon: float) -> None:
    """Raises ValueError where the rows' longest moves do not spend the budget."""
    if farthest < budget * (1 - ROUNDING):
        raise ValueError(
            f"expected a budget that epsilon={epsilon:g} lets the rows reach, got {budget:g} where the "
            f"mean l1 move is {farthest:.4g}; raise epsilon or lower the budget"
        )
