"""Condense the cells of an experiment to mean and standard deviation over its seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any, Final

from mipoison.eval.metrics import gain

Statistic = dict[str, float | int | None]


def summarise(cells: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Gathers the cells of each temperature.

    Args:
        cells: the "numbers" of `mipoison.eval.cell.run_cell`.

    Returns:
        By temperature (as text, "3"): ``seeds``; ``target`` (its accuracies) and ``floors``, name
        to statistic; ``defenses``, name to "A1.mse", "all.gain", "utility.l1_mean", ... to statistic;
        ``doubled_epochs`` and ``worst_cases``, the same. A statistic has mean, sd (sample standard deviation, None
        for a single seed), min and max; all are None where a seed has no such number.
    """
    summary: dict[str, dict[str, Any]] = {}
    for temperature in sorted({cell["temperature"] for cell in cells}):
        group = [cell for cell in cells if cell["temperature"] == temperature]
        summary[f"{temperature:g}"] = {
            "seeds": [cell["seed"] for cell in group],
            "target": _statistics([cell["target"] for cell in group]),
            "floors": _statistics([cell["floors"] for cell in group]),
            "defenses": {
                name: _statistics([_flatten(cell, name) for cell in group])
                for name in group[0]["defenses"]
            },
            "doubled_epochs": {
                name: _statistics([_flat(cell["doubled_epochs"][name]) for cell in group])
                for name in group[0]["doubled_epochs"]
            },
            "worst_cases": {
                name: _statistics([worst_of(cell["worst_cases"][name]) for cell in group])
                for name in group[0].get("worst_cases", {})
            },
        }
    return summary


def statistic(values: Sequence[float | None]) -> Statistic:
    """Returns mean, sample standard deviation, minimum and maximum; None for each where a value is None.

    Example:
        >>> statistic([1.0, 3.0])
        {'mean': 2.0, 'sd': 1.4142135623730951, 'min': 1.0, 'max': 3.0}
    """
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return dict.fromkeys(("mean", "sd", "min", "max"))
    return {
        "mean": mean(known),
        "sd": stdev(known) if len(known) > 1 else None,
        "min": min(known),
        "max": max(known),
    }


# What a summary of before does not have.
ABSENT: Final = statistic([None])


def _statistics(rows: Sequence[Mapping[str, float | None]]) -> dict[str, Statistic]:
    return {key: statistic([row[key] for row in rows]) for key in rows[0]}


def _flatten(cell: dict[str, Any], name: str) -> dict[str, float | None]:
    defense = cell["defenses"][name]
    flat = _flat(defense["attacks"]) | {"all.gain": _gain_of_all(cell, name)}
    for part in ("utility", "cost", "train_test"):
        flat |= {f"{part}.{key}": value for key, value in defense[part].items()}
    return flat | {
        f"variant.{name}": numbers["mse"] for name, numbers in defense["variants"].items()
    }


def _gain_of_all(cell: dict[str, Any], name: str) -> float | None:
    """The gain under the stronger of A3 and the denoiser, counted from the smaller of their undefended errors."""

    def error(defense: str) -> float:
        attacks = cell["defenses"][defense]["attacks"]
        return min(float(attacks[one]["mse"]) for one in ("A3", "denoiser"))

    return gain(error(name), error("none"), cell["floors"]["label_only"])


def worst_of(case: Mapping[str, Any]) -> dict[str, float | None]:
    """The gains of one defense's worst cases by name ("copies.8", "other_keys", "key_leaked"), and the "strongest"."""
    copies = {f"copies.{count}": value for count, value in case["copies"].items()}
    tried = copies | {name: case[name] for name in ("other_keys", "key_leaked")}
    # Whoever holds the key can do all that the others do.
    measured = [value for value in tried.values() if value is not None]
    return tried | {"strongest": min(measured, default=None)}


def _flat(nested: dict[str, dict[str, Any]]) -> dict[str, float | None]:
    return {
        f"{outer}.{inner}": value
        for outer, numbers in nested.items()
        for inner, value in numbers.items()
        if value is None or isinstance(value, (int, float))
    }
