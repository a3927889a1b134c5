"""The section of docs/results.md about people: what `studies/people.py` measured."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

from csv_rows import read_rows
from people import BUDGETS, FAMILIES, FILE, METHODS, NOTHING, NUMERIC, PRESET, TRAINED

from mipoison.eval.presets import LABEL_ONLY, NONE

# What a row holds beside attributes.
_BESIDE = ("system", "seed", "leaks", "l1", "mse", "g2", "g3", "gain", "median", "certified")
_BESIDE += ("kept", "strongest", "date", "processor")
# The family whose three budgets stand in the table of attributes.
_SHOWN = FAMILIES[0]


def people_section() -> str:
    """What each defense wins, and each attribute from nothing, the label, vectors and defended vectors."""
    rows = read_rows(FILE)
    if not rows:
        return ""
    seeds = sorted({row["seed"] for row in rows})
    by_system: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        by_system.setdefault(row["system"], []).append(row)
    bare, label = (_mean(by_system[one.name], "mse", 4) for one in (NONE, LABEL_ONLY))
    most = PRESET.most
    text = [
        "\n## People: attributes that an income classifier tells\n\n"
        f"Adult (UCI), 13 attributes; target gradient boosting of scikit-learn, trained on {TRAINED:,} others; K = 2, "
        f"T = 1. Defender, auxiliary, victims: {', '.join(f'{count:,}' for count in most.values())} rows; the "
        f"adversaries of `mipoison audit`; seeds {', '.join(seeds)}. MSE undefended {bare}, label only {label}. "
        f"{rows[0]['processor']}, {rows[0]['date']}; `make study-people`. *Strongest* is the gain under all "
        "adversaries, those with undefended answers to their own queries among them.\n\n"
        "| defense | budget | l1 | g2 | g3 | strongest | median | certified | kept |\n"
        + "|---" * 9
        + "|\n"
    ]
    for method in METHODS:
        own = by_system.get(method.name, [])
        if len(own) < len(seeds):
            text.append(f"| {method.family} | {_budget(method.name)} | not to be had |{' |' * 6}\n")
            continue
        cells = [_mean(own, "l1", 3), *(_mean(own, key) for key in ("g2", "g3", "gain", "median"))]
        kept = ", ".join(dict.fromkeys(row["kept"] for row in own if row["kept"])) or "–"
        cells += [_mean(own, "certified"), kept]
        text.append(f"| {method.family} | {_budget(method.name)} | {' | '.join(cells)} |\n")
    shown = [NOTHING, LABEL_ONLY.name, NONE.name]
    shown += [method.name for method in METHODS if method.family == f"LPA {_SHOWN}"]
    budgets = " | ".join(f"budget {budget:g}" for budget in BUDGETS)
    text.append(
        "\nWhat the strongest adversary says of each attribute: the share of people for whom it is right, or R² of a "
        f"number, under LPA {_SHOWN}, the default. From nothing: the most frequent value.\n\n"
        f"| attribute | from nothing | label only | vectors | {budgets} |\n" + "|---" * 7 + "|\n"
    )
    for name in [head for head in rows[0] if head not in _BESIDE]:
        cells = [_mean(by_system[one], name) for one in shown]
        text.append(f"| {name}{' (R²)' if name in NUMERIC else ''} | {' | '.join(cells)} |\n")
    return "".join(text)


def _budget(name: str) -> str:
    return name.rpartition("-")[2]


def _mean(rows: Sequence[dict[str, str]], key: str, digits: int = 2) -> str:
    """The mean over seeds; a dash where a seed has none."""
    values = [row[key] for row in rows]
    if not all(values):
        return "–"
    return f"{mean(map(float, values)):.{digits}f}"
