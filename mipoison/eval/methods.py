"""Name the defenses that an experiment can compare, check their options, and build them from the defender's data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeAlias

from torch import Tensor

from mipoison.defenses import LFP, LPA, LabelOnly, Rounding
from mipoison.defenses.clean import defender_rows
from mipoison.defenses.lfp.selection import ROWS
from mipoison.defenses.lfp.targets import TARGETS
from mipoison.defenses.lpa import AUTO, OBJECTIVES
from mipoison.defenses.lpa.candidates import KINDS
from mipoison.defenses.lpa.codebook import Codebook
from mipoison.defenses.lpa.cutoff import Cutoff
from mipoison.defenses.lpa.equilibrium import Equilibrium
from mipoison.defenses.lpa.game import EXPONENTS, Rules
from mipoison.defenses.lpa.penalized import Penalized
from mipoison.eval.outside import outside_defense
from mipoison.eval.scalars import real, several, whole
from mipoison.eval.strengths import SWEEPS
from mipoison.progress import Progress, Report

Options: TypeAlias = dict[str, float | str]
# Name and value to the value as Python has it.
Check: TypeAlias = Callable[[str, Any], float | str]


def number(most: float, *, zero: bool = False) -> Check:
    """A number > 0, or >= 0 with ``zero``, up to the most."""

    def check(name: str, value: Any) -> float:
        found = real(name, value)
        if not (0 < found <= most or (zero and found == 0)):
            raise ValueError(
                f"{name}: expected a number {'>=' if zero else '>'} 0 and <= {most:g}, got {found:g}"
            )
        return found

    return check


def count(least: int = 1) -> Check:
    """A whole number of at least so much."""
    return lambda name, value: whole(name, value, least=least)


def choice(allowed: Iterable[str]) -> Check:
    """One of the words."""

    def check(name: str, value: Any) -> str:
        if value not in tuple(allowed):
            raise ValueError(f"{name}: expected one of {', '.join(allowed)}, got {value!r}")
        return str(value)

    return check


def text(name: str, value: Any) -> str:
    """Any text."""
    if not isinstance(value, str):
        raise ValueError(f"{name}: expected a text, got {value!r}")
    return value


@dataclass(frozen=True)
class Takes:
    """The options of a builder.

    Attributes:
        needed: those that a method must have.
        more: those that it may have.
    """

    needed: Mapping[str, Check] = field(default_factory=lambda: MappingProxyType({}))
    more: Mapping[str, Check] = field(default_factory=lambda: MappingProxyType({}))

    def checked(self, options: Options) -> Options:
        """The options, their values as Python has them, in their order.

        Raises:
            ValueError: if one is missing, unknown or out of its range.

        Example:
            >>> Takes({"decimals": count()}).checked({"decimals": 1, "wish": 2})
            Traceback (most recent call last):
            ValueError: expected options decimals, got wish too
        """
        known = {**self.needed, **self.more}
        if unknown := [name for name in options if name not in known]:
            raise ValueError(
                f"expected options {', '.join(known) or '(none)'}, got {', '.join(unknown)} too"
            )
        if missing := [name for name in self.needed if name not in options]:
            raise ValueError(f"expected options {', '.join(known)}, got no {', '.join(missing)}")
        return {name: known[name](name, value) for name, value in options.items()}


Defense = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Own:
    """What a defense is fitted on, and its secret.

    Attributes:
        outputs: undefended vectors of the defender's data, ``[n, K]``.
        inputs: that data, ``[n, D]``.
        groups: int64 ``[n]``: altered copies of one input share a number; None: there are none.
        key: the deployment's secret.
        seed: of a surrogate's training.
        progress: called with the share of a fit of LPA that is done.
    """

    outputs: Tensor
    inputs: Tensor
    groups: Tensor | None
    key: int
    seed: int
    progress: Report | None = None


Builder = Callable[[Own, Options], Defense]


@dataclass(frozen=True)
class Method:
    """One row of the comparison: a way to build a defense, with its strength.

    Attributes:
        name: how reports call it; unique within an experiment.
        family: rows of one family are one curve, swept over strength.
        builder: a key of `BUILDERS`.
        options: keyword arguments of the builder, as pairs, so that a method stays hashable.
        label_preserving: whether the defense promises that no label changes.

    Raises:
        ValueError: if the builder is unknown, or an option is missing, none of the builder's or out of its range.
    """

    name: str
    family: str
    builder: str
    options: tuple[tuple[str, float | str], ...] = ()
    label_preserving: bool = True

    def __post_init__(self) -> None:
        if self.builder not in BUILDERS:
            raise ValueError(
                f"method {self.name!r}: expected a builder out of {sorted(BUILDERS)}, "
                f"got {self.builder!r}"
            )
        try:
            given = dict(several("options", self.options))
            checked = BUILDERS[self.builder].takes.checked(given)
        except (ValueError, TypeError) as error:
            raise ValueError(f"method {self.name!r}: {error}") from error
        object.__setattr__(self, "options", tuple(checked.items()))

    def build(
        self,
        outputs: Tensor,
        inputs: Tensor,
        *,
        key: int,
        seed: int,
        groups: Tensor | None = None,
    ) -> Defense:
        """Fits the defense, vectors to vectors, on the defender's own ``[n, K]`` and their inputs ``[n, D]``.

        Args:
            outputs: undefended vectors of the defender's data.
            inputs: that data.
            key: the deployment's secret.
            seed: of a surrogate's training.
            groups: see `Own`.
        """
        own = Own(outputs, inputs, groups, key, seed)
        return BUILDERS[self.builder].build(own, dict(self.options))


def _nothing(own: Own, options: Options) -> Defense:
    return lambda served: served


def _label_only(own: Own, options: Options) -> Defense:
    return LabelOnly()


def _rounding(own: Own, options: Options) -> Defense:
    return Rounding(decimals=int(options["decimals"]))


def _swept(name: str) -> Builder:
    """Builds the defense whose mean l1 on the defender's vectors is the option `mean_l1`."""

    def build(own: Own, options: Options) -> Defense:
        mean_l1 = float(options["mean_l1"])
        return SWEEPS[name].realise(own.outputs, mean_l1, key=own.key, seed=own.seed)

    return build


def _lpa(own: Own, options: Options) -> Defense:
    objective = str(options["objective"])
    # The others keep no rows out of a fit, and know no copies.
    kind = Equilibrium if objective == AUTO else OBJECTIVES[objective]
    groups = own.groups if issubclass(kind, (Penalized, Codebook, Cutoff)) else None
    given = {name: float(options[name]) for name in options if name != "objective"}
    return LPA.fit(
        own.outputs,
        own.inputs,
        objective=objective,
        epsilon=given.get("epsilon"),
        budget=given.get("budget"),
        certified=given.get("certified"),
        norm="l1",
        key=own.key if kind.keyed else None,
        seed=own.seed,
        groups=groups,
        progress=own.progress,
    )


def _ablation(own: Own, options: Options) -> Defense:
    """The equilibrium by other rules: "rounds", "memory", "error", or "without" a kind of candidates."""
    changed: dict[str, Any] = {name: options[name] for name in options if name != "budget"}
    if "without" in changed:
        changed["without"] = (changed["without"],)
    budget = float(options["budget"])
    epsilon = min(1.0, 8 * budget)
    played = Equilibrium.fit(
        defender_rows(own.outputs),
        own.inputs,
        budget=budget,
        epsilon=epsilon,
        norm="l1",
        seed=own.seed,
        progress=Progress(None),
        rules=Rules(**changed),
    )
    return LPA(played, epsilon=epsilon, key=own.key)


def _lfp(own: Own, options: Options) -> Defense:
    return LFP.fit(
        own.outputs,
        own.inputs,
        rate=float(options["rate"]),
        rows=str(options["rows"]),
        targets=str(options["targets"]),
        key=own.key,
        seed=own.seed,
    )


def _outside(own: Own, options: Options) -> Defense:
    name = str(options["callable"])
    return outside_defense(name, own.outputs, own.inputs, key=own.key, seed=own.seed)


@dataclass(frozen=True)
class Recipe:
    """How a defense is made.

    Attributes:
        build: makes it.
        takes: the options of that.
    """

    build: Builder
    takes: Takes


_LENGTH = number(2.0)  # Moves of a row, as l1: from nothing to between two corners.

BUILDERS: Mapping[str, Recipe] = {
    "none": Recipe(_nothing, Takes()),
    "label_only": Recipe(_label_only, Takes()),
    "rounding": Recipe(_rounding, Takes({"decimals": count(0)})),
    "lpa": Recipe(
        _lpa,
        Takes(
            {"objective": choice((AUTO, *OBJECTIVES))},
            {"epsilon": _LENGTH, "budget": _LENGTH, "certified": number(1.0)},
        ),
    ),
    "lfp": Recipe(
        _lfp,
        Takes({"rate": number(1.0, zero=True), "rows": choice(ROWS), "targets": choice(TARGETS)}),
    ),
    "ablation": Recipe(
        _ablation,
        Takes(
            {"budget": _LENGTH},
            {
                "rounds": count(),
                "memory": count(),
                "error": choice(EXPONENTS),
                "without": choice(KINDS),
            },
        ),
    ),
    "outside": Recipe(_outside, Takes({"callable": text})),
    **{name: Recipe(_swept(name), Takes({"mean_l1": _LENGTH})) for name in SWEEPS},
}
