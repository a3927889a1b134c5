"""Runs targets that are trained to leak less, each way at four strengths: `studies/numbers/retrained.csv`.

    python studies/retrained.py [--jobs JOBS] [--out runs/study/retrained]

Digits at T = 3, nothing poisoned, seeds 0-2; part of `make study`. Each target is a run of its own in that folder: what
is finished there is not run again.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from csv_rows import Row, write_rows
from kept import NUMBERS

from mipoison.eval.presets import DEMO, LABEL_ONLY, NONE
from mipoison.eval.report.results_file import RESULTS
from mipoison.eval.run.environment import together
from mipoison.eval.run.experiment import run

FILE: Final = NUMBERS / "retrained.csv"
STRENGTHS = {
    "nls": (-0.05, -0.1, -0.2, -0.4),
    "vib": (0.01, 0.03, 0.1, 0.3),
    "bido": (0.05, 0.1, 0.2, 0.3),
}
PLAIN = replace(DEMO, temperatures=(3.0,), methods=(NONE, LABEL_ONLY), checked_methods=("none",))


def trials(target: str, folder: Path, jobs: int) -> tuple[list[Row], list[dict[str, Any]]]:
    """What each seed's target is worth and leaks undefended, and the environments in which that was found.

    Raises:
        SystemExit: if a cell failed, or the run was interrupted.
    """
    outcome = run(replace(PLAIN, target=target), folder, jobs=jobs)
    if not outcome.complete:
        raise SystemExit("\n".join(outcome.failed.values()) or f"{target} was interrupted")
    found = []
    results = json.loads((folder / RESULTS).read_text())
    for cell in results["cells"]:
        attacks = cell["defenses"]["none"]["attacks"]
        found.append(
            {
                "target": target,
                "seed": cell["seed"],
                "accuracy": cell["target"]["accuracy"],
                "label_only": cell["floors"]["label_only"],
                **{family: attacks[family]["mse"] for family in ("standard", "adaptive")},
                "identity": attacks["adaptive"]["identity"],
            }
        )
    return found, [cell["environment"] for cell in results["cells"]]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/study/retrained"))
    given = parser.parse_args()
    targets = ["mlp"]
    targets += [f"mlp+{way}:{s:g}" for way, own in STRENGTHS.items() for s in own]
    rows: list[Row] = []
    environments: list[dict[str, Any]] = []
    for target in targets:
        found, made_in = trials(target, given.out / target, given.jobs)
        rows += found
        environments += made_in
    write_rows(FILE, rows, together(environments))
