"""Condense what was measured: how much vectors tell beyond the label, and what each defense wins and costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import mean
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from mipoison.audit.measure.systems import Measured
from mipoison.eval.adversaries.base import REFIT, STANDARD
from mipoison.eval.metrics import gain, row_gain
from mipoison.eval.scalars import derive_seed

Errors = npt.NDArray[np.float64]
# Draws of the victims, and the share of them that an interval leaves out.
_DRAWS: Final = 4000
_OUTSIDE: Final = 0.05
# What a defense must win to be recommended.
ENOUGH: Final = 0.8
# Mean moves that differ by no more are taken for equal: a budget is met to about so much.
_AS_FAR: Final = 1.1


def verdict(
    none: Measured, label: Measured, groups: torch.Tensor, *, seed: int, seeds: int = 1
) -> dict[str, Any]:
    """How much better than from the label alone the strongest adversary reconstructs, and for whom.

    Both sides have the same adversaries, each its strongest on the victims. That there is a difference at all is
    asked of the variants that the adversary chooses by the rows that it kept back, since the strongest on the victims
    may be so by chance. Where they leave it open, every variant is compared with the label's strongest, by intervals
    that are wider for their number (Bonferroni).

    Args:
        none: vectors as they are.
        label: the label alone.
        groups: of the victims, [M]: whole groups are drawn for the intervals.
        seed: of these draws.
        seeds: how many seeds are asked, each of which may find a leak: for their number, too, the intervals that
            decide are wider.

    Returns:
        leaks, reduction (1 - error / error from the label), its interval and that of the chosen variants (95 %),
        median and most_exposed_tenth of the victims' own reductions, closer (share of victims for whom the vector
        tells more than the label), mse, label_mse and the variants' names.
    """
    strongest, of_label = _strongest(none), _strongest(label)
    seen, told = none.errors[strongest], label.errors[of_label]
    chosen = none.errors[_chosen(none)], label.errors[_chosen(label)]
    drawn = _Drawn.of(groups, seed=seed)
    outside = _OUTSIDE / seeds
    # (Denoisers hold undefended answers, which are these.)
    each = none.errors[: len(none.variants) - none.denoisers]
    least = max(
        drawn.interval(*chosen, outside)[0],
        *(drawn.interval(one, told, outside / len(each))[0] for one in each),
    )
    own = 1 - seen / np.maximum(told, np.finfo(np.float64).tiny)
    reduction = 1 - float(seen.mean()) / float(told.mean()) if told.mean() > 0 else 0.0
    return {
        "leaks": bool(least > 0 and reduction > 0),
        "reduction": reduction,
        "interval": drawn.interval(seen, told),
        "chosen_interval": drawn.interval(*chosen),
        "median": float(np.quantile(own, 0.5)),
        "most_exposed_tenth": float(np.quantile(own, 0.9)),
        "closer": float((seen < told).mean()),
        "mse": float(seen.mean()),
        "label_mse": float(told.mean()),
        "variant": _named(none, strongest),
        "label_variant": _named(label, of_label),
        "chosen_variant": _named(none, _chosen(none)),
    }


def of_seeds(verdicts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The verdict of several seeds: means, and a leak where one seed is sure of it and the mean reduction says so too.

    Example:
        >>> of_seeds([{"leaks": True, "reduction": 0.02}, {"leaks": False, "reduction": 0.01}])["leaks"]
        True
    """
    means = averaged(verdicts)
    return {
        **means,
        "leaks": means["reduction"] > 0 and any(one["leaks"] for one in verdicts),
    }


def gains(one: Measured, none: Measured, label: Measured, *, leaks: bool) -> dict[str, Any]:
    """What a defense wins under each adversary, and how that is spread over the victims; None where nothing leaks.

    Args:
        one: vectors under the defense.
        none: vectors as they are.
        label: the label alone.
        leaks: whether vectors tell more than the label.

    Returns:
        mse, g2, g3, gain (under the strongest of all, those with undefended answers too), median, worst_tenth,
        certified_gain, the strongest variant's name, beside utility, cost, quality and certificate as measured.
    """
    if "failed" in one.numbers:
        return {"failed": one.numbers["failed"]}
    most = float(label.errors[_strongest(label)].mean())
    standard = one.variants.index(STANDARD)
    strongest, bare = _strongest(one), _strongest(none)
    any_one, any_bare = _strongest(one, denoisers=True), _strongest(none, denoisers=True)
    won: dict[str, Any] = dict.fromkeys(("g2", "g3", "gain", "median", "worst_decile"))
    if leaks:
        won["g2"] = _gain(one.errors[standard], none.errors[standard], most)
        won["g3"] = _gain(one.errors[strongest], none.errors[bare], most)
        won["gain"] = _gain(one.errors[any_one], none.errors[any_bare], most)
        won |= asdict(
            row_gain(
                torch.from_numpy(one.errors[any_one]), torch.from_numpy(none.errors[any_bare]), most
            )
        )
    won["worst_tenth"] = won.pop("worst_decile")
    undefended = float(none.errors[any_bare].mean())
    return {
        "mse": float(one.errors[any_one].mean()),
        **won,
        "certified_gain": _certified(one.numbers["certificate"], undefended) if leaks else None,
        "strongest": _named(one, any_one),
        "variants": {
            name: float(errors.mean())
            for name, errors in zip(one.variants, one.errors, strict=True)
        },
        **{
            name: one.numbers[name]
            for name in ("quality", "utility", "cost", "certificate", "kept")
        },
    }


def recommended(defenses: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Names the defense to deploy, or None where none has a gain.

    Of those that win `ENOUGH` under the strongest adversary and move answers least, or at most a tenth farther, the one
    that wins most; if none wins enough, the one that wins most. Only defenses that changed no label and answered the
    same query alike take part.

    Args:
        defenses: by name, what `gains` gives, without the references.

    Example:
        >>> cost = {"utility": {"l1_mean": 0.1, "labels_changed": 0.0, "repeats": 1.0}}
        >>> dear = {"utility": {"l1_mean": 0.2, "labels_changed": 0.0, "repeats": 1.0}}
        >>> recommended({"a": {"gain": 0.85, **cost}, "b": {"gain": 0.95, **dear}})
        'a'
    """
    able = {
        name: one
        for name, one in defenses.items()
        if one.get("gain") is not None
        and one["gain"] > 0
        and one["utility"]["labels_changed"] == 0
        and one["utility"]["repeats"] == 1
    }
    moves = {name: one["utility"]["l1_mean"] for name, one in able.items() if one["gain"] >= ENOUGH}
    least = min(moves.values(), default=0.0)
    near = [name for name, l1 in moves.items() if l1 <= least * _AS_FAR]
    return max(near or able, key=lambda name: able[name]["gain"], default=None)


def averaged(seeds: Sequence[Any]) -> Any:
    """The same numbers averaged over seeds; None where a seed has none. Text that differs is joined.

    Example:
        >>> averaged([{"a": 1.0, "b": None}, {"a": 2.0, "b": 3.0}])
        {'a': 1.5, 'b': None}
    """
    first = seeds[0]
    if len(seeds) == 1:
        return first
    if all(isinstance(one, Mapping) for one in seeds):
        common = [name for name in first if all(name in one for one in seeds)]
        return {name: averaged([one[name] for one in seeds]) for name in common}
    if any(one is None for one in seeds):
        return None
    if isinstance(first, bool):
        return all(seeds)
    if isinstance(first, int | float):
        return mean(seeds)
    if isinstance(first, list | tuple):
        return [averaged(values) for values in zip(*seeds, strict=True)]
    return " / ".join(dict.fromkeys(map(str, seeds)))


def _strongest(one: Measured, *, denoisers: bool = False) -> int:
    """The variant of least mean error on the victims."""
    count = len(one.variants) - (0 if denoisers else one.denoisers)
    return int(one.errors[:count].mean(1).argmin())


def _chosen(one: Measured) -> int:
    """The variant that the adversary chooses by the rows that it kept back, trained again on all rows."""
    if REFIT in one.variants:
        return one.variants.index(REFIT)
    held_out = one.numbers["held_out"]
    able = [name for name in one.variants[: len(one.variants) - one.denoisers] if name in held_out]
    return one.variants.index(min(able, key=lambda name: float(held_out[name])))


def _named(one: Measured, variant: int) -> str:
    """How the page calls a variant: of the one that was trained again, what it is."""
    name = one.variants[variant]
    return f"{one.numbers['refit']}, on all rows" if name == REFIT else name


def _gain(errors: Errors, undefended: Errors, most: float) -> float | None:
    return gain(float(errors.mean()), float(undefended.mean()), most)


def _certified(certificate: Mapping[str, Any] | None, undefended: float) -> float | None:
    """The certified gain; None where no error above that without a defense is proved."""
    if certificate is None or certificate["label_mse_seen"] <= undefended:
        return None
    found = (certificate["mse"] - undefended) / (certificate["label_mse_seen"] - undefended)
    return float(found) if found > 0 else None


@dataclass(frozen=True)
class _Drawn:
    """Victims drawn again, whole groups of them.

    Attributes:
        number: of each victim's group, [M].
        counts: how often each draw has each group, [groups, draws].
    """

    number: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]

    @classmethod
    def of(cls, groups: torch.Tensor, *, seed: int) -> _Drawn:
        number = torch.unique(groups, return_inverse=True)[1].numpy()
        generator, count = np.random.default_rng(derive_seed(seed, "interval")), number.max() + 1
        draws = generator.multinomial(count, np.full(count, 1 / count), size=_DRAWS)
        return cls(number, draws.T)

    def interval(self, seen: Errors, told: Errors, outside: float = _OUTSIDE) -> list[float]:
        """Of the reduction of the mean error; it leaves out so large a share of the draws."""
        sums = np.stack([np.bincount(self.number, weights=errors) for errors in (seen, told)])
        left, right = sums @ self.counts
        reductions = 1 - left / np.maximum(right, np.finfo(np.float64).tiny)
        return [float(value) for value in np.quantile(reductions, (outside / 2, 1 - outside / 2))]
