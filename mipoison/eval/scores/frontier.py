"""Compare defenses at equal realised mean l1, and say which no other beats on both counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np

# What was asked for on the defender's rows is realised on the victims within so much.
_REACH: Final = 1.05

Methods: TypeAlias = Sequence[Mapping[str, Any]]


def budget_of(method: Mapping[str, Any]) -> float | None:
    """The mean l1 that a method aims at; None where its strength is another number."""
    options = method["options"]
    budget: float | None = options.get("budget", options.get("mean_l1"))
    return budget


def budgets_of(methods: Methods) -> list[float]:
    """Every mean l1 that one of the methods aims at, growing."""
    return sorted({budget for method in methods if (budget := budget_of(method)) is not None})


def at_one_budget(methods: Methods, *, most: int = 20) -> list[str]:
    """Names all methods, or where there are more than most: those of the largest budget but one, and those of none.

    Example:
        >>> few = [{"name": "none", "options": {}}, {"name": "a", "options": {"budget": 0.1}}]
        >>> at_one_budget(few), at_one_budget([*few, {"name": "b", "options": {"mean_l1": 0.2}}], most=2)
        (['none', 'a'], ['none', 'a'])
    """
    budgets = budgets_of(methods)
    if len(methods) <= most or not budgets:
        return [method["name"] for method in methods]
    return [m["name"] for m in methods if budget_of(m) in (None, budgets[-2:][0])]


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

    The curve joins the family's members by straight lines and begins at no defense, which is g3 0 at l1 0. It ends
    at its farthest member: beyond, nothing is claimed, but that one stands for a mean l1 that it misses by a twentieth.

    Args:
        group: a temperature's part of the summary in results.json.
        methods: the configuration's.

    Returns:
        Family to mean l1 to g3, for each mean l1 that a method of the run aims at; None beyond the curve.
    """
    wanted = budgets_of(methods)
    families: dict[str, list[tuple[float, float]]] = {}
    for method in methods:
        if method["name"] != "none" and keeps_labels(group, method):
            families.setdefault(method["family"], [(0.0, 0.0)]).append(_point(group, method))
    curves = {}
    for family, points in families.items():
        l1, gain = np.array(sorted(points)).T
        curves[family] = {
            budget: float(np.interp(budget, l1, gain)) if budget <= _REACH * l1[-1] else None
            for budget in wanted
        }
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


def _point(group: Mapping[str, Any], method: Mapping[str, Any]) -> tuple[float, float]:
    measured = group["defenses"][method["name"]]
    return float(measured["utility.l1_mean"]["mean"]), float(measured["adaptive.gain"]["mean"])
