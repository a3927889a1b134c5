"""Condense the cells of an experiment to mean and standard deviation over its seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any, Final, TypeAlias

from mipoison.eval.adversaries.base import ON_ALL_ROWS, REFIT
from mipoison.eval.metrics import gain

Statistic: TypeAlias = dict[str, float | int | None]
# Defense to the name of a number to the number.
FlatCell: TypeAlias = dict[str, dict[str, float | None]]
# The parts of a cell that belong to no defense, and those that not every defense has.
_OF_ALL: Final = ("target", "floors")
_OF_SOME: Final = ("doubled_epochs", "worst_cases")


def summarise(cells: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Gathers the cells of each temperature.

    Args:
        cells: the "numbers" of `mipoison.eval.run.cell.run_cell`.

    Returns:
        By temperature (as text, "3"): ``seeds``; ``target`` (its accuracies) and ``floors``, name
        to statistic; ``defenses``, name to "clean.mse", "all.gain", "utility.l1_mean", ... to statistic;
        ``doubled_epochs`` and ``worst_cases``, the same. A statistic has mean, sd (sample standard deviation, None
        for a single seed), min and max; all are None where a seed has no such number.
    """
    summary: dict[str, dict[str, Any]] = {}
    for temperature in sorted({cell["temperature"] for cell in cells}):
        group = [cell for cell in cells if cell["temperature"] == temperature]
        seeds = [cell["seed"] for cell in group]
        summary[f"{temperature:g}"] = summarise_flat(seeds, [flatten_cell(cell) for cell in group])
    return summary


def flatten_cell(cell: dict[str, Any]) -> FlatCell:
    """A cell's numbers by defense and by a name with dots, "clean.mse"; under "" those that belong to no defense."""
    flat: FlatCell = {
        "": {f"{part}.{name}": value for part in _OF_ALL for name, value in cell[part].items()}
    }
    for name in cell["defenses"]:
        flat[name] = _flat_defense(cell, name)
    for name, numbers in cell["doubled_epochs"].items():
        flat[name] |= {f"doubled_epochs.{key}": value for key, value in _flat(numbers).items()}
    for name, case in cell["worst_cases"].items():
        flat[name] |= {f"worst_cases.{key}": value for key, value in worst_of(case).items()}
    return flat


def summarise_flat(seeds: Sequence[int], cells: Sequence[FlatCell]) -> dict[str, Any]:
    """The statistics of one temperature's flattened cells, as `summarise` has them."""
    names = [name for name in cells[0] if name]
    of_all = _statistics([cell[""] for cell in cells])
    of_each = {name: _statistics([cell[name] for cell in cells]) for name in names}
    return {
        "seeds": list(seeds),
        **{part: _part(of_all, part) for part in _OF_ALL},
        "defenses": {
            name: {
                key: value
                for key, value in measured.items()
                if not key.startswith(tuple(f"{part}." for part in _OF_SOME))
            }
            for name, measured in of_each.items()
        },
        **{
            part: {name: own for name in names if (own := _part(of_each[name], part))}
            for part in _OF_SOME
        },
    }


def _part(statistics: Mapping[str, Statistic], part: str) -> dict[str, Statistic]:
    """Those whose name begins with the part's, without it."""
    return {
        key.removeprefix(f"{part}."): value
        for key, value in statistics.items()
        if key.startswith(f"{part}.")
    }


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


def _statistics(rows: Sequence[Mapping[str, float | None]]) -> dict[str, Statistic]:
    return {key: statistic([row[key] for row in rows]) for key in rows[0]}


def _flat_defense(cell: dict[str, Any], name: str) -> dict[str, float | None]:
    defense = cell["defenses"][name]
    flat = _flat(defense["attacks"]) | {"all.gain": _gain_of_all(cell, name)}
    for part in ("utility", "cost", "train_test", "certificate"):
        flat |= {f"{part}.{key}": value for key, value in defense[part].items()}
    variants = defense["variants"]
    flat |= {f"variant.{name}": numbers["mse"] for name, numbers in variants.items()}
    # What the variant was that the adversary chose, and trained on all rows: the mean over seeds is the share of them.
    chosen = defense["attacks"]["adaptive chosen"]["variant"]
    could_be = [f"{name}{ON_ALL_ROWS}" for name in variants if "held_out_mse" in variants[name]]
    return flat | {f"named.{REFIT}.{name}": float(name == chosen) for name in could_be}


def _gain_of_all(cell: dict[str, Any], name: str) -> float | None:
    """The gain under the stronger of adaptive adversary and denoiser, from the smaller of their undefended errors."""

    def error(defense: str) -> float:
        attacks = cell["defenses"][defense]["attacks"]
        return min(float(attacks[one]["mse"]) for one in ("adaptive", "denoiser"))

    return gain(error(name), error("none"), cell["floors"]["label_only"])


def worst_of(case: Mapping[str, Any]) -> dict[str, float | None]:
    """The gains of one defense's worst cases by name ("copies.8", "other_keys", "key_leaked"), and the "strongest"."""
    copies = {f"copies.{count}": value for count, value in case["copies"].items()}
    tried = copies | {name: case[name] for name in ("other_keys", "key_leaked")}
    # The holder of the key can do all that the others do.
    measured = [value for value in tried.values() if value is not None]
    return tried | {"strongest": min(measured, default=None)}


def _flat(nested: dict[str, dict[str, Any]]) -> dict[str, float | None]:
    return {
        f"{outer}.{inner}": value
        for outer, numbers in nested.items()
        for inner, value in numbers.items()
        if value is None or isinstance(value, (int, float))
    }
