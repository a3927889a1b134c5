"""Writes what `studies/keys.py` measured: a section of the long page, and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from csv_rows import read_rows
from keys import BUDGET, CASES, FILE, TEMPERATURE
from matplotlib.figure import Figure

from mipoison.eval.report.markdown import spread
from mipoison.eval.scores.summary import Statistic, statistic

Rows = Sequence[dict[str, str]]


def keys_section() -> str:
    """What copies of a query and other keys tell; nothing where the study was not run."""
    rows = read_rows(FILE)
    if not rows:
        return ""
    counts = [str(count) for count in CASES.copies]
    lines = [
        "\n## What the key is worth\n\n",
        f"Digits, T = {TEMPERATURE:g}, budget {BUDGET:g}, {rows[0]['processor']}, {rows[0]['date']}: "
        f"g3 where an adversary averages the answers to so many copies of each query, "
        f"auxiliary and victims alike, jittered by Gaussian noise of "
        f"{CASES.jitter:g} in every pixel. Exact repeats get equal answers, and gain nothing.\n\n",
        "| objective, cell width | " + " | ".join(counts) + " |\n",
        "|---" * (len(counts) + 1) + "|\n",
    ]
    curves = dict.fromkeys(
        (row["objective"], row["cell_width"]) for row in rows if row["adversary"] == "averages"
    )
    for objective, width in curves:
        gains = averaged(rows, objective, width)
        cells = [spread(gains[count]) if count in gains else "–" for count in counts]
        lines.append(f"| {objective}, {width} | " + " | ".join(cells) + " |\n")
    other, leaked, strongest = (
        ", ".join(f"{spread(of(rows, name, adversaries))} ({name})" for name in objectives(rows))
        for adversaries in (
            ("other_keys",),
            ("key_leaked",),
            ("averages", "other_keys", "key_leaked"),
        )
    )
    lines.append(
        f"\nAn adversary who knows everything but the key trains on {CASES.draws} answers a row under "
        f"other keys beside the real one. g3 then is {other}. One who holds the key computes {CASES.altered} more "
        f"answers a row, to copies with noise of {CASES.altering:g} in every pixel: {leaked}. That is no more than a "
        "client with so many queries could ask for. The holder of the key can do all of this; under the strongest of "
        f"it: {strongest}.\n"
    )
    return "".join(lines)


def objectives(rows: Rows) -> list[str]:
    """What was attacked."""
    return list(dict.fromkeys(row["objective"] for row in rows))


def averaged(rows: Rows, objective: str, width: str | None = None) -> dict[str, Statistic]:
    """g3 over the seeds by the number of copies, at a cell width, or at the objective's own: the first."""
    own = [row for row in rows if row["objective"] == objective and row["adversary"] == "averages"]
    width = width or own[0]["cell_width"]
    gains: dict[str, list[float]] = {}
    for row in own:
        if row["cell_width"] == width:
            gains.setdefault(row["copies"], []).append(float(row["gain"]))
    return {count: statistic(values) for count, values in gains.items()}


def of(rows: Rows, objective: str, adversaries: Sequence[str]) -> Statistic:
    """g3 over the seeds under the strongest of these, at the objective's own cell width."""
    own = [row for row in rows if row["objective"] == objective]
    least: dict[str, float] = {}
    for row in own:
        if row["adversary"] in adversaries and row["cell_width"] == own[0]["cell_width"]:
            least[row["seed"]] = min(float(row["gain"]), least.get(row["seed"], float("inf")))
    return statistic(list(least.values()))


def draw_keys(to: Path) -> None:
    """g3 against the number of answers that are averaged, the objectives at their own cell widths."""
    rows, counts = read_rows(FILE), CASES.copies
    figure = Figure(figsize=(5.2, 3.4), layout="constrained")
    panel = figure.subplots()
    styles = zip(objectives(rows), ("o", "s"), ("#0072B2", "#D55E00"), strict=True)
    for objective, marker, color in styles:
        curve = averaged(rows, objective).values()
        panel.errorbar(
            counts,
            [gain["mean"] for gain in curve],
            [gain["sd"] for gain in curve],
            marker=marker,
            color=color,
            capsize=2,
            label=f"LPA {objective}",
        )
    panel.set_xscale("log", base=2)
    panel.set_xticks(counts, [str(count) for count in counts])
    panel.set_ylim(0, 1.05)
    panel.axhline(1.0, color="#444444", linestyle="--", linewidth=1)
    panel.annotate("label-only ceiling", (counts[0], 1.01), fontsize=8, color="#444444")
    panel.set_xlabel("jittered copies of each query that are averaged")
    panel.set_ylabel("gain under the strongest adversary (g3)")
    panel.legend(frameon=False, loc="lower left")
    figure.savefig(to, dpi=120)
