"""Writes what docs/keys.py measured: its section of docs/results.md, and its picture."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from mipoison.eval.markdown import spread
from mipoison.eval.summary import statistic, worst_of


def keys_section(kept: dict[str, Any]) -> str:
    """What copies of a query and other keys tell."""
    cases, environment = kept["cases"], kept["environment"]
    counts = [str(count) for count in cases["copies"]]
    lines = [
        "\n## What the key is worth\n\n",
        f"Digits, T = 3, budget {kept['budget']:g}, {environment['processor']}, {environment['date']}: "
        f"g3 where an adversary averages the answers to so many copies of each query, "
        f"auxiliary and victims alike, jittered by Gaussian noise of "
        f"{cases['jitter']:g} in every pixel. Exact repeats get equal answers, and gain nothing.\n\n",
        "| objective, cell width | " + " | ".join(counts) + " |\n",
        "|---" * (len(counts) + 1) + "|\n",
    ]
    for objective, trials in kept["objectives"].items():
        by_width = {f"{trials[0]['own_grid']:g}": [trial["copies"] for trial in trials]}
        by_width |= {
            width: [trial["grids"][width] for trial in trials] for width in trials[0]["grids"]
        }
        for width, curves in by_width.items():
            cells = [
                mean_and_sd([curve[count] for curve in curves]) if count in curves[0] else "–"
                for count in counts
            ]
            lines.append(f"| {objective}, {width} | " + " | ".join(cells) + " |\n")
    lines.append(
        f"\nAn adversary who knows everything but the key trains on {cases['draws']} answers a row under "
        "other keys beside the real one. g3 then is "
        + ", ".join(
            f"{mean_and_sd([trial['other_keys'] for trial in trials])} ({objective})"
            for objective, trials in kept["objectives"].items()
        )
        + f". One who holds the key computes {cases['altered']} more answers a row, to copies with noise of "
        f"{cases['altering']:g} in every pixel: "
        + ", ".join(
            f"{mean_and_sd([trial['key_leaked'] for trial in trials])} ({objective})"
            for objective, trials in kept["objectives"].items()
        )
        + ". That is no more than a client with so many queries could ask for. Whoever holds the key can do all of "
        "this; under the strongest of it: "
        + ", ".join(
            f"{mean_and_sd([worst_of(trial)['strongest'] for trial in trials])} ({objective})"
            for objective, trials in kept["objectives"].items()
        )
        + ".\n\n"
        "![Gain against the number of averaged copies](study/keys.png)\n"
    )
    return "".join(lines)


def draw_keys(kept: dict[str, Any], to: Path) -> None:
    """g3 against the number of answers that are averaged, the objectives at their own cell widths."""
    counts = kept["cases"]["copies"]
    figure = Figure(figsize=(5.2, 3.4), layout="constrained")
    panel = figure.subplots()
    styles = zip(kept["objectives"].items(), ("o", "s"), ("#0072B2", "#D55E00"), strict=True)
    for (objective, trials), marker, color in styles:
        curves = [[trial["copies"][str(count)] for count in counts] for trial in trials]
        means = [statistics.mean(values) for values in zip(*curves, strict=True)]
        spreads = [statistics.stdev(values) for values in zip(*curves, strict=True)]
        panel.errorbar(
            counts, means, spreads, marker=marker, color=color, capsize=2, label=f"LPA {objective}"
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


def mean_and_sd(values: Sequence[float | None]) -> str:
    """Over the seeds."""
    return spread(statistic(values))
