"""Writes the README's table from the committed run; `make docs` copies a new run first."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from mipoison.eval.markdown import mean_alone

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs/demo/results.json"
ROWS = (
    ("LPA equilibrium, budget 0.1", "3", "lpa-equilibrium-l1-0.1"),
    ("LPA equilibrium, budget 0.2", "3", "lpa-equilibrium-l1-0.2"),
    ("LPA decoy, epsilon 0.2", "3", "lpa-decoy-0.2"),
    ("Laplace noise", "3", "laplace-0.2"),
    ("rounding to one decimal", "3", "rounding-1"),
    ("LPA equilibrium, budget 0.05", "1", "lpa-equilibrium-l1-0.05"),
    ("LPA equilibrium, budget 0.2", "1", "lpa-equilibrium-l1-0.2"),
    ("Laplace noise", "1", "laplace-0.2"),
    ("rounding to one decimal", "1", "rounding-1"),
)
HEAD = (
    "| defense | T | g2 | g3 | g3 of the median victim | mean l1 | labels changed |\n"
    "|---|---|---|---|---|---|---|\n"
)


def table(summary: dict[str, Any]) -> str:
    """The table in Markdown, means over the run's seeds."""
    lines = []
    for title, temperature, name in ROWS:
        measured = summary[temperature]["defenses"][name]
        gains = [mean_alone(measured[key]) for key in ("A2.gain", "A3.gain", "A3.median")]
        moved = f"{measured['utility.l1_mean']['mean']:.3f}"
        changed = f"{measured['utility.labels_changed']['max']:.0f}"
        lines.append("| " + " | ".join([title, temperature, *gains, moved, changed]) + " |\n")
    return HEAD + "".join(lines)


def fill(readme: str, results: dict[str, Any]) -> str:
    """The README with its table written anew."""
    return re.sub(
        r"\| defense \| T .*?\n(?=\n)",
        lambda _: table(results["summary"]),
        readme,
        flags=re.DOTALL,
    )


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(fill(path.read_text(), json.loads(RESULTS.read_text())))
