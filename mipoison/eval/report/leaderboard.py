"""The numbers of many runs in one CSV, and a page that compares the defenses of each setting."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

from mipoison.eval.report.glossary import COLUMN_TERMS, as_markdown
from mipoison.eval.report.markdown import COLUMNS, described, row
from mipoison.eval.report.results_file import expecting_results, read_json, write_json, write_text
from mipoison.eval.scores.summary import FlatCell, flatten_cell, summarise_flat

RESULTS: Final = "results.csv"
RUNS: Final = "runs.json"
PAGE: Final = "leaderboard.md"
# What tells one row of the CSV from all others.
_KEY: Final = ("run", "temperature", "defense", "seed")
# More digits are not worth their bytes.
_DIGITS: Final = 5
_SETTING: Final = ("dataset", "target", "target_epochs", "auxiliary", "adversary", "seeds")
_HEAD: Final = f"""# Leaderboard

One table a setting; entries of different settings do not compare. The order is that of the realised mean l1, since a
gain says nothing without it: read upwards from the distortion that you can bear. `mipoison leaderboard FOLDER` writes
this page from the CSV beside it.

{as_markdown(*COLUMN_TERMS)}"""
Line: TypeAlias = dict[str, str]


def add(results: Mapping[str, Any], folder: Path, name: str) -> None:
    """Adds a run to a leaderboard's CSV; an earlier run of that name is replaced.

    Args:
        results: what results.json holds.
        folder: where the leaderboard lies, or is begun.
        name: the run's name.

    Raises:
        ValueError: if the run was not finished.
    """
    if not results["complete"]:
        raise ValueError("expected a finished run, got one that lacks cells; run it again")
    runs, lines = read_runs(folder), [line for line in _read_rows(folder) if line["run"] != name]
    runs[name] = {
        "environment": results["environment"],
        "configuration": results["configuration"],
        "seconds": [round(cell["seconds"]) for cell in results["cells"]],
    }
    for cell in results["cells"]:
        lines += [
            {
                "run": name,
                "temperature": f"{cell['temperature']:g}",
                "defense": defense,
                "seed": str(cell["seed"]),
            }
            | {column: _written(value) for column, value in numbers.items()}
            for defense, numbers in flatten_cell(cell).items()
        ]
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / RESULTS, _as_csv(lines))
    write_json(folder / RUNS, dict(sorted(runs.items())))


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """Every run of a leaderboard, as results.json has it, without its cells.

    Args:
        folder: where the leaderboard lies.

    Returns:
        Run to "environment", "configuration", "seconds" (of each cell) and "summary".

    Raises:
        ValueError: if the CSV and the list of runs do not belong together, or one of them is damaged.
    """
    runs, lines = read_runs(folder), _read_rows(folder)
    groups: dict[str, dict[str, dict[str, FlatCell]]] = {}
    for line in lines:
        of_run = groups.setdefault(line["run"], {}).setdefault(line["temperature"], {})
        of_run.setdefault(line["seed"], {})[line["defense"]] = _numbers(line, folder)
    if set(groups) != set(runs):
        raise ValueError(
            f"expected the same runs in {folder / RESULTS} and {folder / RUNS}; restore both from one commit"
        )
    for name, run in runs.items():
        seeds = run["configuration"]["seeds"]
        run["summary"] = {
            temperature: summarise_flat(seeds, list(cells.values()))
            for temperature, cells in groups[name].items()
        }
    return runs


def write_page(folder: Path, page: Path | None = None) -> Path:
    """Writes the page of all runs in the folder, beside them if nothing else is given.

    Raises:
        FileNotFoundError: if there are none.
        ValueError: if a file is damaged.
    """
    page = page or folder / PAGE
    settings: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    told: dict[str, tuple[float, Mapping[str, Any]]] = {}
    with expecting_results(folder / RUNS):
        for run in read(folder).values():
            configuration = run["configuration"]
            for temperature, group in run["summary"].items():
                setting = {name: configuration[name] for name in _SETTING}
                key = json.dumps([setting, temperature], sort_keys=True)
                told[key] = (float(temperature), setting)
                settings.setdefault(key, []).extend(group["defenses"].items())
        if not settings:
            raise FileNotFoundError(f"expected runs in {folder}, found none; give a finished run")
        # What several runs of a setting measured, such as no defense at all, is shown once.
        sections = [_section(*told[key], dict(defenses)) for key, defenses in settings.items()]
    write_text(page, _HEAD + "".join(sections))
    return page


def read_runs(folder: Path) -> dict[str, dict[str, Any]]:
    """The conditions of a leaderboard's runs, by name; none where it is not begun."""
    return read_json(folder / RUNS) if (folder / RUNS).exists() else {}


def _read_rows(folder: Path) -> list[Line]:
    path = folder / RESULTS
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream, strict=True, restval="")
        try:
            columns, lines = reader.fieldnames or (), list(reader)
        except csv.Error as error:
            raise ValueError(f"{path}: expected CSV, got {error}; restore it") from None
    if lacking := [column for column in _KEY if column not in columns]:
        raise ValueError(f"{path}: expected the columns {_KEY}, got none named {lacking}")
    return lines


def _as_csv(lines: Sequence[Line]) -> str:
    columns = dict.fromkeys((*_KEY, *(column for line in lines for column in line)))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _written(value: float | None) -> str:
    """A number as the CSV has it: "nan" is measured and undefined, an empty cell is not measured."""
    return "nan" if value is None else f"{value:.{_DIGITS}g}"


def _numbers(line: Line, folder: Path) -> dict[str, float | None]:
    numbers = {}
    for column, text in line.items():
        if column in _KEY or not text:
            continue
        try:
            value = float(text)
        except ValueError:
            where = ", ".join(f"{name} {line[name]}" for name in _KEY)
            raise ValueError(
                f"{folder / RESULTS}: expected a number in column {column} of {where}, got {text!r}; restore the file"
            ) from None
        numbers[column] = None if math.isnan(value) else value
    return numbers


def _section(
    temperature: float, setting: Mapping[str, Any], defenses: Mapping[str, Mapping[str, Any]]
) -> str:
    adversary = setting["adversary"]
    log_floors = (adversary["log_floor"], adversary["deep_floor"])
    floors = " and ".join(f"{floor:g}" for floor in log_floors if floor is not None)
    losses = f", MLPs for {', '.join(adversary['losses'])}" if adversary["losses"] else ""
    decoders = f", decoders ({', '.join(adversary['decoders'])})" if adversary["decoders"] else ""
    ranked = sorted(defenses.items(), key=lambda entry: entry[1]["utility.l1_mean"]["mean"])
    table = "".join(row(name, measured) for name, measured in ranked)
    return (
        f"\n## {setting['dataset']}, {setting['target']}, T = {temperature:g}\n\n"
        f"{described(setting)}. Target {setting['target']}, {setting['target_epochs']} epochs; "
        f"seeds {', '.join(map(str, setting['seeds']))}. "
        f"Adversaries: MLPs of {adversary['width']} units for at most {adversary['epochs']} epochs and of "
        f"{adversary['wide_width']} for {adversary['wide_epochs']} (logarithms down to "
        f"{floors}), nearest neighbours, label only"
        f"{losses}{decoders}.\n\n"
        f"{COLUMNS}{table}"
    )
