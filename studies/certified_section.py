"""The table of docs/guides/certificates.md: what `studies/certified.py` measured."""

from __future__ import annotations

import math
from collections.abc import Sequence

from certified import FILE, LFW
from csv_rows import read_rows

from mipoison.eval.presets import STANDARD
from mipoison.eval.report.markdown import spread
from mipoison.eval.scores.summary import statistic

Rows = Sequence[dict[str, str]]
_TITLES = {
    "digits": "Digits",
    "mnist": "MNIST-5k",
    "faces": "ORL faces",
    LFW: "LFW behind ImageNet's classes",
}
_COLUMNS = (
    "defense",
    "mean l1",
    "certified gain",
    "estimate",
    "of the label's",
    "answers",
    "alone",
)
_HEAD = f"| {' | '.join(_COLUMNS)} |\n{'|---' * len(_COLUMNS)}|\n"


def certified_section() -> str:
    """A table for each setting; nothing where the study was not run."""
    rows = read_rows(FILE)
    if not rows:
        return ""
    made = sorted({f"{row['date']}, {row['processor']}" for row in rows})
    settings = dict.fromkeys((row["data"], row["temperature"]) for row in rows)
    parts = [f"Means and standard deviations over seeds 0–2 ({'; '.join(made)}).\n"]
    for data, temperature in settings:
        some = [row for row in rows if (row["data"], row["temperature"]) == (data, temperature)]
        count, bare = some[0]["rows"], float(some[0]["undefended"])
        label = spread(of(some, "label_mse_seen"), 4)
        conditions = (
            f"{count} held-out inputs; error without a defense {bare:.4f}, behind the label {label}"
        )
        parts.append(f"\n**{_TITLES[data]}, T = {temperature}**: {conditions}.\n\n{_HEAD}")
        for defense, budget in sorted(
            dict.fromkeys((row["defense"], row["budget"]) for row in some), key=strength
        ):
            mine = [row for row in some if (row["defense"], row["budget"]) == (defense, budget)]
            parts.append(line(defense, budget, mine))
    return "".join(parts)


def strength(one: tuple[str, str]) -> tuple[bool, float]:
    """Codebooks last, by their budgets; the others stay in their order."""
    return one[0] == "codebook", float(one[1] or 0)


def line(defense: str, budget: str, rows: Rows) -> str:
    """One defense in a setting."""
    title = defense
    if defense == "codebook":
        title += f", budget {budget}" if budget else ", one answer a label"
    if len(rows) < len(STANDARD.seeds):
        title += f" ({len(rows)} of {len(STANDARD.seeds)} seeds; the others refuse the budget)"
    cells = [
        title,
        spread(of(rows, "mean_l1"), 3),
        spread(of(rows, "gain")),
        spread(of(rows, "gain_seen")),
        spread(statistic([float(row["mse"]) / float(row["label_mse_seen"]) for row in rows])),
        spread(of(rows, "answers"), 0),
        f"{of(rows, 'alone')['mean']:.1%}",
    ]
    return "| " + " | ".join(cells) + " |\n"


def of(rows: Rows, column: str) -> dict[str, float | int | None]:
    """The statistic of a column over the seeds; a gain is none where the label tells as much as the vectors."""
    values = [float(row[column]) for row in rows]
    return statistic([None if math.isnan(value) else value for value in values])
