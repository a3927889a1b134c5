"""Runs the study of targets that are trained to leak less, each way at four strengths, and writes its numbers.

    python docs/retrained.py runs/study/retrained.json [JOBS]

Digits at T = 3, nothing poisoned, seeds 0-2; part of `make study`, unless the numbers are there.
docs/results_page.py takes them into docs/study and writes the page.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from joblib import Parallel, delayed

from mipoison.eval.cell import run_cell
from mipoison.eval.environment import describe_environment
from mipoison.eval.presets import DEMO, LABEL_ONLY, NONE

STRENGTHS = {
    "nls": (-0.05, -0.1, -0.2, -0.4),
    "vib": (0.01, 0.03, 0.1, 0.3),
    "bido": (0.05, 0.1, 0.2, 0.3),
}
TEMPERATURE = 3.0


def trial(target: str, seed: int) -> dict[str, Any]:
    """What one seed's target is worth, and what the adversaries make of its undefended vectors."""
    configuration = replace(
        DEMO,
        target=target,
        temperatures=(TEMPERATURE,),
        methods=(NONE, LABEL_ONLY),
        checked_methods=("none",),
    )
    cell = run_cell(configuration, seed, TEMPERATURE).numbers
    attacks = cell["defenses"]["none"]["attacks"]
    return {
        "seed": seed,
        "accuracy": cell["target"]["accuracy"],
        "label_only": cell["floors"]["label_only"],
        **{family: attacks[family]["mse"] for family in ("A2", "A3")},
        "identity": attacks["A3"]["identity"],
    }


if __name__ == "__main__":
    jobs = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    targets = ["mlp"]
    targets += [f"mlp+{way}:{s:g}" for way, own in STRENGTHS.items() for s in own]
    asked = [(target, seed) for target in targets for seed in DEMO.seeds]
    found = Parallel(n_jobs=jobs)(delayed(trial)(*one) for one in asked)
    kept: dict[str, Any] = {
        "environment": describe_environment(jobs=jobs),
        "temperature": TEMPERATURE,
        "targets": {target: [] for target in targets},
    }
    for (target, _), numbers in zip(asked, found, strict=True):
        kept["targets"][target].append(numbers)
    Path(sys.argv[1]).write_text(json.dumps(kept, indent=1) + "\n")
