"""LPA: label-preserving poisoning of all output vectors (arXiv 2412.07575)."""

from __future__ import annotations

from os import PathLike
from typing import Any, ClassVar, Final

import torch
from torch import Tensor

from mipoison import ops
from mipoison.defenses import storage
from mipoison.defenses.bank import Bank, away
from mipoison.defenses.base import Defense, as_dtype, own_rows
from mipoison.defenses.lpa.alignment import Alignment, FullAlignment
from mipoison.defenses.lpa.ascent import Ascent
from mipoison.defenses.lpa.crossfit import as_groups, fit_cross
from mipoison.defenses.lpa.decoy import Decoy
from mipoison.defenses.lpa.direction import Direction
from mipoison.defenses.lpa.equilibrium import Equilibrium
from mipoison.defenses.lpa.game import EXPONENTS
from mipoison.defenses.lpa.generator import Generator
from mipoison.defenses.lpa.objective import Objective
from mipoison.defenses.lpa.priced import Priced
from mipoison.neutral import neutrally
from mipoison.ops.answers import Rows
from mipoison.ops.identity import Ids
from mipoison.ops.validation import (
    NORMS,
    as_choice,
    as_number,
)
from mipoison.progress import Progress, Report
from mipoison.random import Key, KeyLike, resolve_key
from mipoison.reference import label_of
from mipoison.reference.project import distance
from mipoison.surrogate import Surrogate

OBJECTIVES: Final[dict[str, type[Objective]]] = {
    objective.name: objective
    for objective in (Equilibrium, Generator, Decoy, Ascent, Direction, Alignment, FullAlignment)
}
# The mean move of the equilibrium, unless one is given.
_BUDGET: Final = 0.1
# Halvings of epsilon when a budget is to be met, and the most rows it is measured on.
_HALVINGS: Final = 12
_CALIBRATION_ROWS: Final = 512
# A row that moved less than this share of epsilon has not moved.
_BARE: Final = 1e-3


class LPA(Defense):
    """Moves every row within its label-preserving ε-set so that inversion models learn something else.

    The label of no row changes, and no row moves farther than epsilon. Make one with `LPA.fit`. It
    is an empirical defense, not differential privacy, and what the label tells still leaks.

    Args:
        objective: where in its set a row goes.
        epsilon: radius ε in (0, 2] of each row's ball.
        norm: "l1" (default), "l2" or "linf".
        key: secret of the deployment: int, bytes or None (one drawn per process). All randomness is
            a function of (key, row): a repeated query gets the same answer.
        on_invalid: see `Defense`.
    """

    name: ClassVar[str] = "LPA"

    def __init__(
        self,
        objective: Objective,
        *,
        epsilon: float = 0.2,
        norm: str = "l1",
        key: KeyLike = None,
        on_invalid: str = "raise",
    ) -> None:
        super().__init__(on_invalid=on_invalid)
        self.objective = objective
        self.epsilon = as_number("epsilon", epsilon, 0.0, 2.0, open_low=True)
        self.norm = as_choice("norm", norm, NORMS)
        self._key: Key = resolve_key(key)

    @property
    def ball(self) -> tuple[float, str]:
        """See `Defense.ball`."""
        return self.epsilon, self.norm

    @property
    def classes(self) -> int | None:
        """K of the data it was fitted on."""
        return self.objective.classes

    @classmethod
    @neutrally
    def fit(
        cls,
        outputs: Any,
        inputs: Any,
        *,
        objective: str = "equilibrium",
        epsilon: float | None = None,
        budget: float | None = None,
        norm: str = "l1",
        error: str = "root",
        key: KeyLike = None,
        seed: int = 0,
        on_invalid: str = "raise",
        groups: Any = None,
        progress: Report | None = None,
    ) -> LPA:
        """Trains a surrogate on the defender's own, non-private, data and sets up the objective.

        Args:
            outputs: undefended confidence vectors, [N, K]; tensor or ndarray. They become the bank,
                and answers show bank vectors: never private data.
            inputs: what produced them, [N, ...] of any shape.
            objective: "equilibrium" (default), "generator" (its game from a table: a sixth of the time a row,
                fewer rows moved, farther), "decoy", "ascent", "direction", "alignment" (the closed
                form for the first layer) or "alignment-full" (all layers, by gradient steps).
            epsilon: hard cap on each row's move, in (0, 2]. By default min(1, 8 budget) for
                "equilibrium" and "generator"; for the others 0.2, or what meets a given budget.
            budget: mean l1 move to aim at, in (0, 2]. Those two put a price on moves that
                meets it (default 0.1, or half of a smaller epsilon than 0.2), and leave rows
                unmoved that are not worth it; the other objectives know no price and spend
                epsilon on every row: epsilon is then calibrated on the given outputs.
            norm: "l1", "l2" or "linf".
            error: "root" or "squared" error of the adversaries, for those two. Root protects
                more of the rows, squared has the larger mean.
            key: see `LPA`.
            seed: of the surrogate's training.
            on_invalid: see `Defense`.
            groups: integers [N], for "equilibrium" and "generator": rows with one number are altered copies of one
                input, and must not count as fresh to each other where the price is set.
            progress: called with the share that is done, rising to 1; what it raises ends the fit.

        Raises:
            TypeError: for a wrong kind or dtype.
            ValueError: for wrong shapes, ranges or rows, or a budget that epsilon does not let it
                reach.

        Example:
            >>> p, x = torch.softmax(torch.randn(64, 5), 1), torch.rand(64, 8, 8)
            >>> defense = LPA.fit(p, x, epsilon=0.1, key=b"secret")
            >>> q = defense(p)
            >>> bool((q.argmax(1) == p.argmax(1)).all())
            True
        """
        as_choice("objective", objective, tuple(OBJECTIVES))
        as_choice("norm", norm, NORMS)
        as_choice("error", error, tuple(EXPONENTS))
        rows = own_rows(outputs)
        cap = 2.0 if epsilon is None else as_number("epsilon", epsilon, 0.0, 2.0, open_low=True)
        goal = None if budget is None else as_number("budget", budget, 0.0, 2.0, open_low=True)
        kind = OBJECTIVES[objective]
        whole = Progress(progress)
        if issubclass(kind, Priced):
            goal = min(_BUDGET, cap / 2) if goal is None else goal
            cap = min(1.0, 8 * goal) if epsilon is None else cap
            priced = fit_cross(
                kind,
                rows,
                torch.as_tensor(inputs, device=rows.device),
                as_groups(groups, rows),
                budget=goal,
                epsilon=cap,
                norm=norm,
                error=error,
                seed=seed,
                progress=whole,
            )
            whole(1.0)
            return cls(priced, epsilon=cap, norm=norm, key=key, on_invalid=on_invalid)
        chosen: Objective = Direction()
        if objective != Direction.name:
            surrogate = Surrogate.fit(rows, inputs, seed=seed, progress=whole.part(0.0, 0.8))
            single = as_dtype(rows, torch.float32)
            if issubclass(kind, Alignment):
                chosen = kind.fit(surrogate, single, inputs, seed=seed)
            else:
                chosen = Decoy(surrogate, Bank(single)) if kind is Decoy else Ascent(surrogate)
        radius = cap if goal is not None or epsilon is not None else 0.2
        defense = cls(chosen, epsilon=radius, norm=norm, key=key, on_invalid=on_invalid)
        if goal is not None:
            stride = -(-len(rows) // _CALIBRATION_ROWS)
            defense._calibrate(rows[::stride], goal)
        whole(1.0)
        return defense

    def _calibrate(self, rows: Tensor, budget: float) -> None:
        """Bisects epsilon until the mean l1 move of the rows is the budget."""
        low, high = 0.0, self.epsilon
        if self._mean_move(rows) < budget * (1 - 0.05):
            raise ValueError(
                f"expected a budget that epsilon={self.epsilon:g} lets the rows reach, got {budget:g} where the "
                f"mean l1 move is {self._mean_move(rows):.4g}; raise epsilon or lower the budget"
            )
        for _ in range(_HALVINGS):
            self.epsilon = (low + high) / 2
            if self._mean_move(rows) < budget:
                low = self.epsilon
            else:
                high = self.epsilon

    def _mean_move(self, rows: Tensor) -> float:
        """Mean ‖q − p‖₁ at the present epsilon."""
        return float((self(rows) - rows).abs().sum(-1).mean())

    def answer(self, p: Tensor) -> Tensor:
        """See `Defense.answer`."""
        q = self.objective.poison(p, key=self._key, epsilon=self.epsilon, norm=self.norm)
        if self.objective.may_stay:
            return q
        # A gradient can vanish, and a direction can point out of the set; no row goes out bare.
        bare = (distance(q, p, self.norm) < _BARE * self.epsilon).unsqueeze(-1)
        # Made for all rows: to ask whether there are bare ones would read back, and no graph could be captured.
        goal = away(p, label_of(p))
        moved = ops.move(p, goal, epsilon=self.epsilon, norm=self.norm, validate=False)
        return torch.where(bare, moved, q)

    def save(self, path: str | PathLike[str]) -> None:
        """Writes the defense as safetensors, without its key."""
        settings = {
            "objective": self.objective.name,
            "epsilon": self.epsilon,
            "norm": self.norm,
            "on_invalid": self.on_invalid,
            **self.objective.settings(),
        }
        storage.save(path, self.name, settings, self.state_dict())

    @classmethod
    def load(cls, path: str | PathLike[str], *, key: KeyLike = None) -> LPA:
        """Reads what `save` wrote; the key is given anew.

        Raises:
            ValueError: if the file holds something else.
        """
        settings, tensors = storage.load(path, cls.name)
        objective = OBJECTIVES[settings["objective"]].restore(
            settings, storage.below("objective", tensors)
        )
        kept = {name: settings[name] for name in ("epsilon", "norm", "on_invalid")}
        return cls(objective, key=key, **kept)

    def extra_repr(self) -> str:
        """Settings, without the key."""
        return f"objective={self.objective.name!r}, epsilon={self.epsilon:g}, norm={self.norm!r}"


def lpa(
    outputs: Rows,
    surrogate: Surrogate | None = None,
    *,
    epsilon: float = 0.2,
    norm: str = "l1",
    key: KeyLike = None,
    ids: Ids = None,
) -> Rows:
    """Label-preserving poisoning in one call.

    With a surrogate the objective is "ascent", which needs no bank. Without one it is a keyed
    direction: the weakest form, better than nothing and no more. `LPA.fit` adds a
    bank and the decoy objective.

    Args:
        outputs: confidence vectors, [N, K]; float32, float64, float16 or bfloat16; tensor or
            ndarray.
        surrogate: inversion models from `Surrogate.fit`.
        epsilon: radius in (0, 2] of each row's ball.
        norm: "l1", "l2" or "linf".
        key: int, bytes or None (one secret per process).
        ids: identities of the requests to key on instead of the rows, see `Defense.forward`.

    Returns:
        the poisoned rows, [N, K] of the same kind and dtype, every label kept.

    Raises:
        TypeError: for a wrong kind, dtype or key.
        ValueError: for wrong shapes and ranges, or rows that are no probability vectors; names the
            rows.

    Example:
        >>> import mipoison as mp, torch
        >>> q = mp.lpa(torch.tensor([[0.7, 0.2, 0.1]]), epsilon=0.1, key=0)
        >>> int(q.argmax())
        0
    """
    if not isinstance(surrogate, Surrogate | None):
        raise TypeError(
            f"expected surrogate to come from mp.Surrogate.fit, got {type(surrogate).__name__}"
        )
    objective = Direction() if surrogate is None else Ascent(surrogate)
    return LPA(objective, epsilon=epsilon, norm=norm, key=key)(outputs, ids=ids)  # type: ignore[no-any-return]
