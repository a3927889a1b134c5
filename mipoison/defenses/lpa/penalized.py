"""Objectives with a penalty on the move: rows may stay, and the mean move is the budget."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Final, NamedTuple

import torch
from torch import Tensor

from mipoison.defenses.clean import as_dtype
from mipoison.defenses.lpa.game import LARGEST_WEIGHT, bisect_penalty_weight, choose
from mipoison.defenses.lpa.key_cells import COOLEST, HOTTEST, KeyCells
from mipoison.defenses.lpa.objective import Objective
from mipoison.defenses.lpa.some import some_of
from mipoison.defenses.saving import numbers_of
from mipoison.keys import Key
from mipoison.ops.rows import label_of
from mipoison.ops.validation import as_number
from mipoison.progress import Progress

# The game is played on each row under this many keys, and on at most this many entries, rows x classes.
DRAWS: Final = 4
TABLE: Final = 1 << 24
# Relative shortfall of a move that rounding explains.
ROUNDING: Final = 1e-3
# The penalty weight is set under this many keys, on at most this many entries of rows.
KEYS: Final = 4
_MOST: Final = 1 << 20


class Weighed(NamedTuple):
    """Answers to each row; the one of largest (score − λ · penalty(spent)) · sharpness + noise is given.

    Attributes:
        score: the adversaries' error on each, float32 [N, C]; −∞ for what may not be given.
        spent: its l1 move, float32 [N, C].
        noise: keyed Gumbel noise, or zeros, float32 [N, C].
    """

    score: Tensor
    spent: Tensor
    noise: Tensor

    def chosen(self, weight: float, sharpness: float) -> Tensor:
        """The l1 moves [N] of the answers that are given at a penalty weight."""
        index = choose(*self, weight, sharpness).unsqueeze(1)
        return self.spent.gather(1, index).squeeze(1).double()

    def spent_at(self, weight: float, sharpness: float) -> float:
        """The mean l1 move at a penalty weight."""
        return float(self.chosen(weight, sharpness).mean())


class Penalized(Objective):
    """Maximises the adversaries' error less λ · `penalty` of the move, over the answers to a row.

    Attributes:
        penalty_weight: λ.
        sharpness: how sharply the best answer is preferred.
        budget: mean l1 move that λ was set for.
        error: "root" or "squared" error of the adversaries.
        key_cells: which rows share their keyed words.
    """

    may_stay: ClassVar[bool] = True
    # Candidates of a row in the game, whose table has TABLE entries at most.
    candidates_a_row: ClassVar[int]
    penalty_weight: float
    sharpness: float
    budget: float
    error: str
    key_cells: KeyCells

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
    ) -> Penalized:
        """Fits on the defender's rows [N, K] and their inputs, so that these rows spend the budget."""

    @abstractmethod
    def weigh(self, p: Tensor, *, key: Key, epsilon: float, norm: str) -> Weighed:
        """The answers to clean rows [N, K] that the penalty chooses among."""

    @abstractmethod
    def with_bank(self, vectors: Tensor) -> Penalized:
        """The same objective whose bank is these vectors, float32 [M, K]."""

    def weight_for(self, rows: Tensor, spent: float, *, epsilon: float, norm: str) -> float:
        """The penalty weight at which the rows' mean move is `spent`."""
        weighed = self.weighed(rows, epsilon=epsilon, norm=norm)
        return bisect_penalty_weight(*weighed, spent, self.sharpness)

    def spent_at(self, weight: float, rows: Tensor, *, epsilon: float, norm: str) -> float:
        """The rows' mean l1 move at a penalty weight."""
        return self.weighed(rows, epsilon=epsilon, norm=norm).spent_at(weight, self.sharpness)

    def weighed(self, rows: Tensor, *, epsilon: float, norm: str) -> Weighed:
        """The answers under several keys, to a share of the rows where there are many."""
        with torch.inference_mode(False), torch.no_grad():
            seen = some_of(len(rows), _MOST // rows.shape[1], rows.device)
            some = as_dtype(rows, torch.float32)[seen]
            # (The name of these keys is part of what λ comes out as.)
            keys = [Key.public(b"price %d" % i) for i in range(KEYS)]
            made = [self.weigh(some, key=key, epsilon=epsilon, norm=norm) for key in keys]
        return Weighed(*(torch.cat(parts) for parts in zip(*made, strict=True)))

    def get_extra_state(self) -> Tensor:
        """The numbers that a state_dict carries beside its tensors: λ, budget, and the key cells' temperature."""
        numbers = [self.penalty_weight, self.budget, self.key_cells.temperature]
        return torch.tensor(numbers, dtype=torch.float64, device="cpu")

    def set_extra_state(self, state: Tensor) -> None:
        """Takes what `get_extra_state` gave.

        Raises:
            ValueError: for anything else.
        """
        # (The weight is negative where rows must move farther than they would for nothing. The search doubles it.)
        ranges = {
            "penalty weight": (-2 * LARGEST_WEIGHT, 2 * LARGEST_WEIGHT),
            "budget": (0.0, 2.0),
            "temperature": (COOLEST, HOTTEST),
        }
        weight, budget, temperature = (
            as_number(name, number, *ranges[name])
            for name, number in zip(ranges, numbers_of(state, tuple(ranges)), strict=True)
        )
        self.penalty_weight, self.budget, self.key_cells.temperature = weight, budget, temperature

    def settings(self) -> dict[str, Any]:
        """See `Objective.settings`."""
        return super().settings() | {
            "penalty_weight": self.penalty_weight,
            "error": self.error,
            "budget": self.budget,
            "grid": self.key_cells.grid,
            "temperature": self.key_cells.temperature,
        }


def require_pairs(rows: Tensor) -> None:
    """Raises ValueError where the labels that occur have fewer than two rows each, on average.

    The game confuses a row with others of its label. A few labels of one row are accepted: such a row is moved like
    one whose bank is empty.
    """
    labels = len(label_of(rows).unique())
    if len(rows) < 2 * labels:
        # The other objectives take two rows of any labels.
        instead = ", or objective='decoy'" if len(rows) > 1 else ""
        raise ValueError(
            f"expected twice as many outputs as labels among them, got {len(rows)} outputs of {labels} labels: the "
            f"game confuses rows of one label; pass more outputs and their inputs{instead}"
        )


def require_reachable(farthest: float, budget: float, epsilon: float) -> None:
    """Raises ValueError where the rows' longest moves spend less than the budget."""
    if farthest < budget * (1 - ROUNDING):
        raise ValueError(
            f"expected a budget that epsilon={epsilon:g} lets the rows reach, got {budget:g} where the "
            f"mean l1 move is {farthest:.4g}; raise epsilon or lower the budget"
        )
