"""Compare defenses at equal realised mean l1, and say which no other beats on both counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np

# A measured member stands for a mean l1 that it misses by so much.
_REACH: Final = 1.05
# Variants that are no part of the adaptive adversary.
_OTHER_ADVERSARIES: Final = (", trained clean", "denoiser", "recovery of ")
_VARIANT: Final = "variant."
# How a variant is called that is another one for each seed, and for which share of them: "named.VARIANT.OTHER".
_NAMED: Final = "named."

Methods: TypeAlias = Sequence[Mapping[str, Any]]


def budget_of(method: Mapping[str, Any]) -> float | None:
    """The mean l1 that a method aims at; None where its strength is another number."""
    options = method["options"]
    budget: float | None = options.get("budget", options.get("mean_l1"))
    return budget


def budgets_of(methods: Methods) -> list[float]:
    """Every mean l1 that one of the methods aims at, growing."""
    return sorted({budget for method in methods if (budget := budget_of(method)) is not None})


def by_budget(methods: Methods) -> dict[float | None, list[str]]:
    """Names the methods of each budget, growing, and last those of none, which are under None; "none" is left out.

    Example:
        >>> by_budget([{"name": "none", "options": {}}, {"name": "a", "options": {"budget": 0.1}}])
        {0.1: ['a']}
    """
    named: dict[float | None, list[str]] = {}
    for budget in (*budgets_of(methods), None):
        names = [m["name"] for m in methods if budget_of(m) == budget and m["name"] != "none"]
        if names:
            named[budget] = names
    return named


def keeps_labels(group: Mapping[str, Any], method: Mapping[str, Any]) -> bool:
    """Whether a method promises to keep labels, and changed none of the victims'."""
    changed = group["defenses"][method["name"]]["utility.labels_changed"]["max"]
    return bool(method["label_preserving"]) and changed == 0


def fresh(group: Mapping[str, Any]) -> dict[str, float]:
    """Names the defenses that answered some row otherwise when asked again, and the least share answered alike."""
    shares = {
        name: measured["utility.repeats"]["min"] for name, measured in group["defenses"].items()
    }
    return {name: share for name, share in shares.items() if share < 1}


def efficient(group: Mapping[str, Any], methods: Methods) -> list[str]:
    """Names the label-preserving defenses that no other beats: none has as large a g3 at as small a mean l1.

    Args:
        group: a temperature's part of the summary in results.json.
        methods: the configuration's.

    Returns:
        Names by growing realised mean l1.
    """
    points = {
        method["name"]: _point(group, method) for method in methods if keeps_labels(group, method)
    }

    def beaten(name: str) -> bool:
        l1, gain = points[name]
        return any(
            other != name and x <= l1 and y >= gain and (x, y) != (l1, gain)
            for other, (x, y) in points.items()
        )

    names = sorted(points, key=lambda name: points[name])
    return [name for name in names if not beaten(name)]


def at_equal_l1(group: Mapping[str, Any], methods: Methods) -> dict[str, dict[float, float | None]]:
    """Reads every family's g3 off its curve at the same realised mean l1.

    The curve joins the family's measured members by straight lines. It begins at the nearest of them and ends at the
    farthest, which stand for a mean l1 that they miss by a twentieth; elsewhere nothing is claimed. A family with one
    member has no curve: it is compared where it was measured, or left out.

    Args:
        group: a temperature's part of the summary in results.json.
        methods: the configuration's.

    Returns:
        Family to mean l1 to g3, for each mean l1 that a method of the run aims at; None beyond the curve. Families
        that are nowhere on their curve are left out.
    """
    wanted = budgets_of(methods)
    families: dict[str, list[tuple[float, float]]] = {}
    for method in methods:
        if method["name"] != "none" and keeps_labels(group, method):
            families.setdefault(method["family"], []).append(_point(group, method))
    curves = {}
    for family, points in families.items():
        l1, gain = np.array(sorted(points)).T
        curve = {
            budget: float(np.interp(budget, l1, gain))
            if l1[0] <= _REACH * budget and budget <= _REACH * l1[-1]
            else None
            for budget in wanted
        }
        if any(value is not None for value in curve.values()):
            curves[family] = curve
    return curves


def equal_l1_cells(
    group: Mapping[str, Any], methods: Methods
) -> tuple[list[float], dict[str, list[str]]]:
    """The same as text: the mean l1 of each column, and each family's cells."""
    curves = at_equal_l1(group, methods)
    cells = {
        family: ["–" if gain is None else f"{gain:.2f}" for gain in curve.values()]
        for family, curve in curves.items()
    }
    return list(next(iter(curves.values()), {})), cells


def errors_of_variants(measured: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """The mean error over seeds of each variant of the adaptive adversary against one defense.

    Args:
        measured: a defense's part of a summary.

    Example:
        >>> errors_of_variants({"variant.MLP, raw": {"mean": 0.2}, "variant.MLP, raw, trained clean": {"mean": 0.1}})
        {'MLP, raw': 0.2}
    """
    return {
        key.removeprefix(_VARIANT): value["mean"]
        for key, value in measured.items()
        if key.startswith(_VARIANT) and not any(other in key for other in _OTHER_ADVERSARIES)
    }


def strongest_variant(measured: Mapping[str, Mapping[str, Any]]) -> str:
    """Names the variant of the adaptive adversary with the least mean error over seeds against one defense.

    Of a variant that is another one for each seed it says which it mostly was.
    """
    errors = errors_of_variants(measured)
    strongest = min(errors, key=errors.__getitem__)
    named = f"{_NAMED}{strongest}."
    shares = {
        key.removeprefix(named): value["mean"]
        for key, value in measured.items()
        if key.startswith(named)
    }
    if not shares:
        return strongest
    most = max(shares, key=shares.__getitem__)
    return most if shares[most] == 1 else f"mostly {most}"


def _point(group: Mapping[str, Any], method: Mapping[str, Any]) -> tuple[float, float]:
    measured = group["defenses"][method["name"]]
    return float(measured["utility.l1_mean"]["mean"]), float(measured["adaptive.gain"]["mean"])
