"""LPA: label-preserving poisoning of all output vectors (arXiv 2412.07575)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Final

import torch
from torch import Tensor

from mipoison.construction import constructor
from mipoison.defenses.bank import away
from mipoison.defenses.base import Defense
from mipoison.defenses.clean import defender_rows, in_memory
from mipoison.defenses.expected import (
    NAMES,
    Expected,
    as_numbers,
    bank_of,
    from_numbers,
    from_settings,
)
from mipoison.defenses.lpa.aim import Aim
from mipoison.defenses.lpa.alignment import Alignment, FullAlignment
from mipoison.defenses.lpa.ascent import Ascent
from mipoison.defenses.lpa.auto import choose
from mipoison.defenses.lpa.codebook import Codebook
from mipoison.defenses.lpa.cutoff import Cutoff
from mipoison.defenses.lpa.decoy import Decoy
from mipoison.defenses.lpa.direction import Direction
from mipoison.defenses.lpa.equilibrium import Equilibrium
from mipoison.defenses.lpa.game import EXPONENTS
from mipoison.defenses.lpa.generator import Generator
from mipoison.defenses.lpa.objective import Objective
from mipoison.defenses.lpa.penalized import Penalized
from mipoison.defenses.lpa.some import some_of
from mipoison.defenses.lpa.train import train
from mipoison.defenses.saving import Restore, numbers_of
from mipoison.defenses.storage import File
from mipoison.exporting import exporting
from mipoison.keys import Key, KeyLike, resolve_key
from mipoison.neutral import neutrally
from mipoison.ops import unchecked
from mipoison.ops.rows import label_of, stray
from mipoison.ops.validation import (
    NORMS,
    as_choice,
    as_inputs,
    as_labels,
    as_number,
    as_part,
    as_seed,
)
from mipoison.progress import Progress, Report, as_report

OBJECTIVES: Final[dict[str, type[Objective]]] = {
    objective.name: objective
    for objective in (
        *(Equilibrium, Generator, Decoy, Ascent, Direction, Alignment, FullAlignment),
        *(Codebook, Cutoff),
    )
}
# The objective of a fit that chooses among the equilibrium, the cutoff and the codebook.
AUTO: Final = "auto"
# Default mean move of the objectives with a penalty.
_BUDGET: Final = 0.1
# Halvings in the search for the epsilon that meets a budget, and the most rows that it is measured on.
_HALVINGS: Final = 12
# A small budget needs more of them.
_MOST_HALVINGS: Final = 40
# The share by which a budget may be missed.
_MET: Final = 0.05
_CALIBRATION_ROWS: Final = 512
# The share by which fresh rows are estimated to miss a budget before a fit warns.
_MISSED: Final = 0.2
# From a warning to who calls `LPA.fit`, through its decorator.
_TO_CALLER: Final = 4
# Objectives that have a setting, for an error.
_TAKES: Final = {
    "error": "objective 'auto', 'equilibrium' or 'generator'",
    "groups": "objective 'auto', 'equilibrium', 'generator', 'codebook' or 'cutoff'",
    "certified": "objective 'codebook'",
}
# The most rows that `expected` is measured on, about.
_EXPECTED_ROWS: Final = 2000
# Fresh rows may spend half of what fewer fitted rows do.
_FEWEST: Final = 128
# A row that moved less than this share of epsilon counts as unmoved.
_BARE: Final = 1e-3
# Rounding puts no answer farther than this out of its ball.
_BEYOND: Final = 1e-6


def _key_for(kind: type[Objective] | Objective, key: KeyLike) -> Key | None:
    """The key that an objective needs; raises ValueError for one that it does not."""
    if kind.keyed:
        return resolve_key(key)
    if key is not None:
        raise ValueError(
            f"expected no key with objective {kind.name!r}, whose answers need none, got one; leave it out"
        )
    return None


def _restored(settings: dict[str, Any], tensors: dict[str, Tensor]) -> Objective:
    """The objective of a saved defense."""
    objective = OBJECTIVES[settings["name"]].restore(settings, tensors)
    objective.realised = _as_realised(settings["realised"])
    if "expected" not in settings:
        raise ValueError(
            "expected an LPA that tells what fresh rows are expected to do, got one that does not: another version of "
            "mipoison saved it; fit it again"
        )
    objective.expected = from_settings(settings["expected"])
    return objective


def _as_realised(value: float | None) -> float | None:
    """Checks what a file or a state_dict says of `LPA.realised`."""
    return None if value is None else as_number("realised", value, 0.0, 2.0)


class LPA(Defense):
    """Moves every row within its label-preserving ε-set so that inversion models learn less.

    No label changes, and no row moves farther than epsilon. Make one with `LPA.fit`. It is an
    empirical defense, not differential privacy, and the label still reveals what it tells.

    Args:
        objective: chooses the answer in each row's set.
        epsilon: radius ε in (0, 2] of each row's ball. Default: 0.2, and 2 for a codebook, whose answers are finitely
            many only where every row may move to its codeword.
        norm: "l1" (default), "l2" or "linf".
        key: secret of the deployment: 16 bytes or more (``secrets.token_bytes(16)``), None (one
            drawn per process) or, for experiments, an int. All randomness is a function of
            (key, row): a repeated query gets the same answer.
        on_invalid: see `Defense`.
        margin: see `Defense`.

    Raises:
        TypeError: for a setting or a key of a wrong kind.
        ValueError: for a setting out of its range, or a key of few bytes or of bytes that repeat themselves.
    """

    name: ClassVar[str] = "LPA"
    saved: ClassVar[tuple[str, ...]] = ("epsilon", "norm")
    parts: ClassVar[Mapping[str, Restore | None]] = {"objective": _restored}

    def __init__(
        self,
        objective: Objective,
        *,
        epsilon: float | None = None,
        norm: str = "l1",
        key: KeyLike = None,
        on_invalid: str = "raise",
        margin: float = 1e-3,
    ) -> None:
        super().__init__(on_invalid=on_invalid, margin=margin)
        self.objective: Objective = as_part(
            "objective",
            objective,
            Objective,  # type: ignore[type-abstract]
            "mp.LPA.fit(..., objective='decoy')",
        )
        radius = self.objective.epsilon if epsilon is None else epsilon
        self.epsilon = as_number("epsilon", radius, 0.0, 2.0, open_low=True)
        self.norm = as_choice("norm", norm, NORMS)
        self.objective.check_margin(self.margin)
        self._key = _key_for(self.objective, key)

    @property
    def piece(self) -> int:
        """See `Defense.piece`."""
        return self.objective.piece

    @property
    def leads(self) -> bool:
        """See `Defense.leads`."""
        return self.objective.leads(self.margin, self.epsilon)

    @classmethod
    def takes_key(cls, settings: Mapping[str, Any]) -> bool:
        """See `Saved.takes_key`. A file that names no objective is refused later."""
        parts = settings.get("parts")
        part = parts.get("objective") if isinstance(parts, dict) else None
        if not isinstance(part, dict) or part.get("name") not in OBJECTIVES:
            return True
        return bool(part.get("keyed", OBJECTIVES[part["name"]].keyed))

    @property
    def ball(self) -> tuple[float, str]:
        """See `Defense.ball`."""
        return self.epsilon, self.norm

    @property
    def classes(self) -> int | None:
        """K of the data it was fitted on."""
        return self.objective.classes

    @property
    def realised(self) -> float | None:
        """The mean l1 move that a fit with a budget expects of fresh rows, or None of one without a budget.

        "equilibrium" and "generator" estimate it on rows that were kept out of the game, at the final penalty. None are
        kept out of fewer than 128 rows; nor of fewer than 256 with ten or more a label on average, or of fewer than
        1000 with forty or more. It is then what the fitted rows spend under other keys, which fresh rows may miss by a
        third. Where rows were kept out, or halves were fitted, the penalty is set so that these rows spend the budget:
        the estimate is then near the budget by construction. "codebook" estimates it on rows that were kept out of a
        fit. The other objectives measure it on the given outputs.
        """
        return self.objective.realised

    @property
    def expected(self) -> Expected | None:
        """What fresh rows are expected to do under this defense's key, which `mipoison.Meter` compares traffic with.

        "equilibrium" and "generator" measure it on rows that were kept out of the game, or on each half of the rows by
        a fit on the other. Where none were kept out, see `realised`, they measure it on the fitted rows, and not at all
        on fewer than 128. The other objectives measure it on the given outputs. Altered copies of one input among these
        make the distances to the bank too small, unless `groups` tell which.
        """
        return self.objective.expected

    @constructor
    @neutrally
    def fit(
        cls,
        outputs: Any,
        inputs: Any = None,
        *,
        objective: str = AUTO,
        epsilon: float | None = None,
        budget: float | None = None,
        certified: float | None = None,
        norm: str = "l1",
        error: str | None = None,
        key: KeyLike = None,
        seed: int = 0,
        on_invalid: str = "raise",
        margin: float = 1e-3,
        groups: Any = None,
        progress: Report | None = None,
    ) -> LPA:
        """Trains a surrogate on the defender's non-private data and sets up the objective.

        Args:
            outputs: undefended confidence vectors, [N, K]; tensor or array. They become the bank,
                which answers reveal: never pass private data.
            inputs: the inputs that produced them, [N, ...] of any shape; tensor or array, a list of
                either, or a list of images of one size. "direction" needs none and only checks them.
            objective: "auto" (default), which fits "equilibrium", "cutoff" and, with 24 rows a label or more,
                "codebook", and keeps the one that adversaries of its own, trained on most rows, recover least from on
                the others; without a clear difference cutoff or codebook, if rows share its answers. It keeps
                "codebook" too where one answer a label moves the given rows no farther than the budget. No codebook is
                kept where `epsilon` caps a move. `defense.objective.name` tells which;
                "generator", which plays the equilibrium's game with a table, takes a tenth of the time a row and
                moves fewer rows farther; "cutoff", which wipes small entries in every row alike and rounds the
                others, for confident classifiers, and has finitely many answers; "decoy"; "ascent"; "direction";
                "alignment", the closed form for the first layer; "alignment-full", all layers by gradient steps; or
                "codebook", a few answers a label. `mipoison.certify` bounds the privacy of "codebook" and "cutoff"
                against every adversary.
            epsilon: hard cap on each row's move, in (0, 2]. By default min(1, 8 budget) for
                "equilibrium" and "generator", and no cap for "codebook" and "cutoff", also where "auto" keeps it; for
                the others 0.2, or what meets a given budget. A row of "codebook" or "cutoff" that is farther from its
                answer goes as far as it may: its answer is its own, and a certificate counts it as reconstructed.
            budget: mean l1 move to aim at, in (0, 2]. "equilibrium" and "generator" penalize moves
                so that the mean meets it (default 0.1, or epsilon / 2 where that is less), and may
                leave rows unmoved; the penalty is set on rows that are kept out of the game, where there are
                enough. "codebook" has as few codewords as meet it on rows that are kept out
                of a fit, and by default one a label. "cutoff" meets it on the given rows, or answers with the label
                alone where that spends less. The other objectives spend up to epsilon on every
                row: a budget calibrates epsilon on the given outputs. `realised` says what fresh rows are
                estimated to spend.
            certified: with "codebook" and in place of a budget, the certified gain to reach at the least l1,
                in (0, 1): 0 is what a surrogate reconstructs without a defense, 1 what the label tells. It is
                estimated on the given rows, each kept out of a fit, at 95 % confidence for as many fresh ones:
                six fits on 700 rows for .4 reached .28 to .51, .37 on average.
            norm: "l1", "l2" or "linf".
            error: "root" (default) or "squared" error of the adversaries, with "auto", "equilibrium" and
                "generator" only. Root protects more of the rows, squared has the larger mean.
            key: see `LPA`. "codebook" and "cutoff" take none; "auto" has one whichever it keeps, and answers of
                these two do not depend on it.
            seed: of everything that is trained; "direction" trains nothing.
            on_invalid: see `Defense`.
            margin: see `Defense`.
            groups: integers [N], with "auto", "equilibrium", "generator", "codebook" and "cutoff" only: rows of one
                number are altered copies of one input, which stay together where rows are kept out of a fit.
            progress: called with the share that is done, rising to 1; an exception from it ends the fit.

        Raises:
            TypeError: for a wrong kind or dtype.
            ValueError: for wrong shapes or ranges, no rows, rows that are no probability vectors,
                settings that the objective does not have, or a budget that is out of reach within
                epsilon.

        Warns:
            UserWarning: if fresh rows are estimated to miss the budget by more than a fifth.

        Example:
            >>> p, x = torch.softmax(torch.randn(64, 5), 1), torch.rand(64, 8, 8)
            >>> defense = LPA.fit(p, x, epsilon=0.1, key=b"a secret of many bytes")
            >>> q = defense(p)
            >>> bool((q.argmax(1) == p.argmax(1)).all())
            True
        """
        chosen = as_choice("objective", objective, (AUTO, *OBJECTIVES))
        kind = Equilibrium if chosen == AUTO else OBJECTIVES[chosen]
        game, finite = issubclass(kind, Penalized), kind in (Codebook, Cutoff)
        for name, value, has in (
            ("error", error, game),
            ("groups", groups, game or finite),
            ("certified", certified, kind is Codebook),
        ):
            if value is not None and not has:
                raise ValueError(
                    f"expected {name} with {_TAKES[name]} alone, got it with {objective!r}; leave it out"
                )
        if certified is not None and budget is not None:
            raise ValueError(
                "expected a budget or a gain to be certified, got both; leave out budget or certified"
            )
        harm = as_choice("error", "root" if error is None else error, tuple(EXPONENTS))
        seed = as_seed(seed)
        cap = 2.0 if epsilon is None else as_number("epsilon", epsilon, 0.0, 2.0, open_low=True)
        goal = None if budget is None else as_number("budget", budget, 0.0, 2.0, open_low=True)
        gain = None
        if certified is not None:
            gain = as_number("certified", certified, 0.0, 1.0, open_low=True)
        if kind is Cutoff and goal is None:
            goal = min(_BUDGET, cap / 2)
        if finite:
            radius = cap
        elif game:
            goal = min(_BUDGET, cap / 2) if goal is None else goal
            radius = min(1.0, 8 * goal) if epsilon is None else cap
        else:
            radius = cap if goal is not None or epsilon is not None else 0.2
        resolved = _key_for(kind, key)
        # The objective is replaced below. Made first, so that a wrong setting is found before anything is trained.
        defense = cls(
            Direction(), epsilon=radius, norm=norm, key=key, on_invalid=on_invalid, margin=margin
        )
        defense._key = resolved
        total = Progress(as_report(progress))
        rows = defender_rows(outputs)
        if inputs is None and kind is not Direction:
            raise ValueError(
                f"expected inputs with objective {objective!r}, got none; pass what produced the outputs"
            )
        x = None if inputs is None else as_inputs(inputs, rows)
        some = None if groups is None else as_labels("groups", groups, rows)
        aim = Aim(radius, norm, defense.margin, goal, gain, harm, seed)
        if chosen == AUTO:
            assert x is not None
            defense.objective = choose(rows, x, some, aim, radius=cap, progress=total)
            if isinstance(defense.objective, (Codebook, Cutoff)):
                defense.epsilon = cap
        else:
            defense.objective = train(kind, rows, x, some, aim, total)
        if goal is not None and not game and not finite:
            defense._calibrate(rows[some_of(len(rows), _CALIBRATION_ROWS, rows.device)], goal)
        defense._expect(rows)
        if goal is not None:
            defense._warn_of_a_miss(goal)
        total(1.0)
        return defense

    def _calibrate(self, rows: Tensor, budget: float) -> None:
        """Bisects epsilon until the mean l1 move of the rows is the budget."""
        low, high = 0.0, self.epsilon
        if self._mean_move(rows) < budget * (1 - _MET):
            raise ValueError(
                f"expected a budget that epsilon={self.epsilon:g} lets the rows reach, got {budget:g} where the "
                f"mean l1 move is {self._mean_move(rows):.4g}; raise epsilon or lower the budget"
            )
        for halving in range(_MOST_HALVINGS):
            self.epsilon = (low + high) / 2
            moved = self._mean_move(rows)
            if moved < budget:
                low = self.epsilon
            else:
                high = self.epsilon
            if halving + 1 >= _HALVINGS and abs(moved - budget) <= _MET * budget:
                break
        self.objective.realised = moved

    def _expect(self, rows: Tensor) -> None:
        """Measures `expected` on rows that the fit kept out, or on the given ones where it keeps none."""
        objective = self.objective
        fresh, objective.fresh = objective.fresh, ()
        kept_out = len(fresh) > 0
        if not kept_out and (not isinstance(objective, Penalized) or len(rows) >= _FEWEST):
            fresh = [(objective, rows)]
        rate = _EXPECTED_ROWS / max(1, sum(len(some) for _, some in fresh))
        how: dict[str, Any] = {"epsilon": self.epsilon, "norm": self.norm, "key": self._key}
        answered = [
            (
                LPA(one, margin=self.margin, **how),
                some[some_of(len(some), math.ceil(rate * len(some)), some.device)],
                bank_of(one),
            )
            for one, some in fresh
        ]
        expected = Expected.of(answered, kept_out=kept_out)
        if expected is not None and isinstance(objective, Codebook) and self.realised is not None:
            # (Fitted rows lie nearer to the codewords.)
            expected = replace(expected, l1=min(2.0, self.realised))
        objective.expected = expected

    def _warn_of_a_miss(self, budget: float) -> None:
        """Warns where fresh rows are estimated to spend another amount than the budget."""
        realised = self.realised
        if realised is None or abs(realised - budget) <= _MISSED * budget:
            return
        if isinstance(self.objective, (Codebook, Cutoff)) and realised < budget:
            # It is a bound there: one answer a label may spend less.
            return
        advice = (
            "give more outputs or raise the budget"
            if realised > budget
            else "give more outputs, raise epsilon or lower the budget"
        )
        warnings.warn(
            f"expected fresh rows to move by the budget of {budget:g} in l1 on average, got an estimate of "
            f"{realised:.3g}; {advice}",
            UserWarning,
            stacklevel=_TO_CALLER,
        )

    def _mean_move(self, rows: Tensor) -> float:
        """Mean ‖q − p‖₁ at the present epsilon."""
        return float((self(rows) - rows).abs().sum(-1).mean())

    def answer(self, p: Tensor) -> Tensor:
        """See `Defense.answer`."""
        if not exporting() and len(p) == 0:
            return p
        objective, epsilon = self.objective, self.epsilon
        q = objective.poison(p, key=self._key, epsilon=epsilon, norm=self.norm)
        if exporting():
            # (Only a codebook is exported, whose answers cannot leave the ball.)
            return q
        # A gradient can vanish, and a direction can point out of the set. Numbers of a network that overflow leave the
        # safe answer, which may lie out of the ball.
        least = 0.0 if objective.may_stay else _BARE * epsilon
        move, count = stray(q, p, self.norm, least=least, most=epsilon + _BEYOND)
        if in_memory(p) and int(count) == 0:
            return q
        goal = away(p, label_of(p))
        moved = unchecked.move(p, goal, epsilon=epsilon, norm=self.norm, style="straight")
        return torch.where(move.unsqueeze(-1), moved, q)

    def save(self, file: File) -> None:
        """See `Saved.save`.

        Raises:
            TypeError: beyond those, for an objective of another package, which `load` could not find.
        """
        if OBJECTIVES.get(self.objective.name) is not type(self.objective):
            raise TypeError(
                f"expected an objective out of {tuple(OBJECTIVES)} to save, got {type(self.objective).__name__}, which "
                "no load would find"
            )
        super().save(file)

    def get_extra_state(self) -> Tensor:
        """What a state_dict carries beside its tensors: the radius, `realised` and `expected`; NaN for none."""
        realised = math.nan if self.realised is None else self.realised
        numbers = [self.epsilon, realised, *as_numbers(self.expected)]
        return torch.tensor(numbers, dtype=torch.float64, device="cpu")

    def set_extra_state(self, state: Tensor) -> None:
        """Takes what `get_extra_state` gave.

        Raises:
            ValueError: for anything else.
        """
        epsilon, realised, *expected = numbers_of(state, ("epsilon", "realised", *NAMES))
        fresh = from_numbers(expected)
        told = _as_realised(None if math.isnan(realised) else realised)
        self.epsilon = as_number("epsilon", epsilon, 0.0, 2.0, open_low=True)
        self.objective.realised = told
        self.objective.expected = fresh

    def extra_repr(self) -> str:
        """Settings, without the key."""
        return f"objective={self.objective.name!r}, epsilon={self.epsilon:g}, norm={self.norm!r}"
