"""Takes a finished demo into the documentation: its numbers, its picture, and the README's table.

    python studies/demo.py [runs/demo]

Without a run, the table is written anew from the numbers that are kept.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
from kept import NUMBERS
from results_page import PICTURES, save_small

from mipoison.eval.data.catalogue import may_be_shown
from mipoison.eval.report import leaderboard
from mipoison.eval.report.figures import own_style, privacy_utility, victims
from mipoison.eval.report.markdown import mean_alone

README = Path(__file__).parents[1] / "README.md"
NAME = "demo"
ROWS = (
    ("LPA, budget 0.1", "3", "lpa-auto-l1-0.1"),
    ("LPA, budget 0.2", "3", "lpa-auto-l1-0.2"),
    ("LPA codebook, certified 0.7", "3", "lpa-codebook-certified-0.7"),
    ("Laplace noise", "3", "laplace-0.2"),
    ("a cutoff for all entries", "3", "high_confidence-0.2"),
    ("rounding to one decimal", "3", "rounding-1"),
    ("LPA, budget 0.05", "1", "lpa-auto-l1-0.05"),
    ("LPA, budget 0.2", "1", "lpa-auto-l1-0.2"),
    ("LPA codebook, certified 0.7", "1", "lpa-codebook-certified-0.7"),
    ("LPA codebook, one answer a label", "1", "lpa-codebook"),
    ("Laplace noise", "1", "laplace-0.2"),
    ("a cutoff for all entries", "1", "high_confidence-0.2"),
    ("rounding to one decimal", "1", "rounding-1"),
)
HEAD = (
    "| defense | T | g2 | g3 | g3 of the median victim | certified | mean l1 | labels changed |\n"
    "|---|---|---|---|---|---|---|---|\n"
)


def table(summary: dict[str, Any]) -> str:
    """The table in Markdown, means over the run's seeds."""
    lines = []
    for title, temperature, name in ROWS:
        measured = summary[temperature]["defenses"][name]
        gains = [
            mean_alone(measured[key])
            for key in ("standard.gain", "adaptive.gain", "adaptive.median", "certificate.gain")
        ]
        moved = f"{measured['utility.l1_mean']['mean']:.3f}"
        changed = f"{measured['utility.labels_changed']['max']:.0f}"
        lines.append("| " + " | ".join([title, temperature, *gains, moved, changed]) + " |\n")
    return HEAD + "".join(lines)


def fill(readme: str, summary: dict[str, Any]) -> str:
    """The README with its table written anew."""
    return re.sub(r"\| defense \| T .*?\n(?=\n)", lambda _: table(summary), readme, flags=re.DOTALL)


# What the adversary reconstructs: the first seed at T = 3.
SEEN_IN = "seed0-T3"
SEEN = {
    "none": "undefended",
    "lpa-auto-l1-0.1": "LPA at 0.1",
    "lpa-auto-l1-0.2": "LPA at 0.2",
}


@own_style()
def keep(run: Path) -> None:
    """Keeps a run's numbers, and draws the victims' pictures, which are not kept.

    Raises:
        SystemExit: if the pictures show people, or may do.
    """
    results = json.loads((run / "results.json").read_text())
    if not may_be_shown(dataset := results["configuration"]["dataset"]):
        raise SystemExit(
            f"{run}: expected a run whose pictures may be published, got one of {dataset}, which may show people"
        )
    leaderboard.add(results, NUMBERS, NAME)
    with np.load(run / "reconstructions.npz") as arrays:
        names = {"originals": "originals", "label only": "label only"} | SEEN
        images = {shown: arrays[f"{SEEN_IN}/{name}"] for name, shown in names.items()}
    picture = victims(images, list(SEEN.values()), {}, title="What the strongest adversary sees")
    save_small(picture, PICTURES / "victims.png")


@own_style()
def write() -> None:
    """Writes the README's table and its picture from the numbers that are kept."""
    kept = leaderboard.read(NUMBERS)[NAME]
    README.write_text(fill(README.read_text(), kept["summary"]))
    picture = privacy_utility(kept["summary"], kept["configuration"]["methods"])
    save_small(picture, PICTURES / "demo.png")


if __name__ == "__main__":
    for given in sys.argv[1:]:
        keep(Path(given))
    write()
