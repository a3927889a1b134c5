"""Objectives that put a price on moves: rows may stay, and the mean move is the budget."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Final, NamedTuple

import torch
from torch import Tensor

from mipoison.defenses.base import as_dtype
from mipoison.defenses.lpa.cells import Cells
from mipoison.defenses.lpa.game import CHARGE, bisect_price, choose
from mipoison.defenses.lpa.objective import Objective
from mipoison.progress import Progress
from mipoison.random import Key
from mipoison.reference import label_of

# The game has candidates of every own row in so many draws, and so many entries, rows x classes, at most.
DRAWS: Final = 4
TABLE: Final = 1 << 24
# How much shorter than asked for a move may come out.
ROUNDING: Final = 1e-3
# Keys under which rows are weighed when a price is set, and entries of rows at most.
_KEYS: Final = 4
_MOST: Final = 1 << 20


class Weighed(NamedTuple):
    """Answers to rows, of which the one of largest (score − price · toll(spent)) · sharpness + noise is given.

    Attributes:
        score: the adversaries' error on each, float32 [N, C]; −∞ for what may not be given.
        spent: its l1 move, float32 [N, C].
        noise: keyed Gumbel noise, or zeros, float32 [N, C].
    """

    score: Tensor
    spent: Tensor
    noise: Tensor


class Priced(Objective):
    """Chooses the answer whose harm to adversaries, less the price of its move, is largest.

    Attributes:
        price: λ, of what `game.toll` charges for a move.
        sharpness: how sharply the best answer is preferred.
        budget: mean l1 move that the price was set for.
        error: "root" or "squared" error of the adversaries.
        cells: which rows share their keyed words.
    """

    may_stay: ClassVar[bool] = True
    price: float
    sharpness: float
    budget: float
    error: str
    cells: Cells

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
        """Fits on the defender's own rows [N, K] and what is behind them; those rows spend the budget then."""

    @abstractmethod
    def weigh(self, p: Tensor, *, key: Key, epsilon: float, norm: str) -> Weighed:
        """The answers to clean rows [N, K] among which the price decides."""

    def price_of(self, rows: Tensor, spent: float, *, epsilon: float, norm: str) -> float:
        """The price at which the rows' mean move is `spent`."""
        weighed = self._weighed(rows, epsilon, norm)
        return bisect_price(*weighed, spent, self.sharpness)

    def spent_at(self, price: float, rows: Tensor, *, epsilon: float, norm: str) -> float:
        """The rows' mean l1 move at a price."""
        score, spent, noise = self._weighed(rows, epsilon, norm)
        index = choose(score, spent, noise, price, self.sharpness).unsqueeze(1)
        return float(spent.gather(1, index).double().mean())

    def _weighed(self, rows: Tensor, epsilon: float, norm: str) -> Weighed:
        """Under several keys. With many rows and classes a share of the rows is enough."""
        with torch.inference_mode(False), torch.no_grad():
            some = as_dtype(rows, torch.float32)[:: -(-rows.numel() // _MOST)].clone()
            keys = [Key.public(b"price %d" % i) for i in range(_KEYS)]
            made = [self.weigh(some, key=key, epsilon=epsilon, norm=norm) for key in keys]
        return Weighed(*(torch.cat(parts) for parts in zip(*made, strict=True)))

    def get_extra_state(self) -> Tensor:
        """The numbers that belong to the tensors of a state_dict: price, charge, budget and the cells' temperature."""
        numbers = [self.price, CHARGE, self.budget, self.cells.temperature]
        return torch.tensor(numbers, dtype=torch.float64, device="cpu")

    def set_extra_state(self, state: Tensor) -> None:
        """Takes what `get_extra_state` gave.

        Raises:
            ValueError: if an older version gave it, whose price is of another charge.
        """
        if len(state) != 4:
            raise ValueError(
                f"expected price, charge, budget and temperature, got {len(state)} numbers of an older version; "
                "fit the defense again"
            )
        price, charge, budget, temperature = state.tolist()
        require_charge(charge)
        self.price, self.budget, self.cells.temperature = price, budget, temperature

    def settings(self) -> dict[str, Any]:
        """See `Objective.settings`."""
        return super().settings() | {
            "price": self.price,
            "error": self.error,
            "budget": self.budget,
            "grid": self.cells.grid,
            "temperature": self.cells.temperature,
            "charge": CHARGE,
        }


def require_charge(found: float | None) -> None:
    """Raises ValueError where a price was set for another charge than `game.toll`: it would miss the budget."""
    if found != CHARGE:
        raise ValueError(
            f"expected a price for charge {CHARGE} (see mipoison.defenses.lpa.game.toll), got "
            f"{'none' if found is None else f'{found:g}'}: an older version saved it; fit the defense again"
        )


def require_pairs(rows: Tensor) -> None:
    """Raises ValueError where the labels that occur have fewer than two rows each, on average.

    A row alone with its label has nothing to be mistaken for. Among many labels a few such rows are no reason to
    refuse: they move as those of an empty bank do.
    """
    labels = len(label_of(rows).unique())
    if len(rows) < 2 * labels:
        raise ValueError(
            f"expected twice as many outputs as labels among them, got {len(rows)} outputs of {labels} labels: a row "
            "alone with its label has nothing to be mistaken for; pass more outputs and their inputs, or "
            "objective='decoy'"
        )


def require_reach(farthest: float, budget: float, epsilon: float) -> None:
    """Raises ValueError where the rows' longest moves do not spend the budget."""
    if farthest < budget * (1 - ROUNDING):
        raise ValueError(
            f"expected a budget that epsilon={epsilon:g} lets the rows reach, got {budget:g} where the "
            f"mean l1 move is {farthest:.4g}; raise epsilon or lower the budget"
        )
