"""Writes what leaks from traffic unlike the fitted rows: a table of docs/guides/watch-the-traffic.md."""

from __future__ import annotations

from typing import Any, Final

from csv_rows import read_rows
from kept import NUMBERS

from mipoison.eval.report.markdown import mean_alone
from mipoison.eval.scores.summary import statistic

FILE: Final = NUMBERS / "unlike.csv"


def unlike_section() -> str:
    """The kept numbers in Markdown, means over seeds; nothing where the study was not run."""
    kept = read_rows(FILE)
    lines = [
        "| T | traffic | undefended MSE | label only | defense | l1 | unchanged | g2 | g3 | median |\n",
        "|---" * 10 + "|\n",
    ]
    bare: dict[str, Any] = {}
    for row in kept:
        if row["seed"] != kept[0]["seed"]:
            continue
        same = ("temperature", "traffic", "defense")
        some = [other for other in kept if all(other[name] == row[name] for name in same)]
        mean = {
            name: statistic([float(one[name]) if one[name] else None for one in some])
            for name in ("l1", "unchanged", "mse", "label_only", "g2", "g3", "median")
        }
        if row["defense"] == "none":
            bare = mean["mse"]
            continue
        gains = " | ".join(mean_alone(mean[name]) for name in ("g2", "g3", "median"))
        lines.append(
            f"| {row['temperature']} | {row['traffic']} | {bare['mean']:.4f} | {mean['label_only']['mean']:.4f} | "
            f"{row['defense']} | {mean['l1']['mean']:.3f} | {mean['unchanged']['mean']:.0%} | {gains} |\n"
        )
    return "".join(lines) if kept else ""
