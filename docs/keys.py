"""Runs the study of what the key is worth and writes its numbers.

    python docs/keys.py runs/study/keys.json [JOBS]

Digits at T = 3, budget 0.1, seeds 0-2; part of `make study`. Where the numbers of this version are there, nothing runs.
docs/results_page.py takes them into docs/study and writes the page.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from joblib import Parallel, delayed

from mipoison.eval.environment import describe_environment
from mipoison.eval.presets import of_budget
from mipoison.eval.stage import Stage
from mipoison.eval.store import FORMAT
from mipoison.eval.studies import STANDARD
from mipoison.eval.threads import one_thread
from mipoison.eval.worst_cases import WorstCases, grid_of, worst_cases

OBJECTIVES = ("equilibrium", "generator")
BUDGET = 0.1
TEMPERATURE = 3.0


def trial(objective: str, seed: int, cases: WorstCases) -> dict[str, Any]:
    """One seed's worst cases of one objective, and the width of its cells."""
    with one_thread():
        stage, method = Stage.of(STANDARD, seed), of_budget(objective, BUDGET)
        defense = stage.defense(method, stage.served(stage.parts.defender, temperature=TEMPERATURE))
        found = worst_cases(
            stage,
            method,
            defense,
            temperature=TEMPERATURE,
            adversary=STANDARD.adversary,
            cases=cases,
        )
    return found | {"own_grid": grid_of(defense)}


def there(out: Path) -> bool:
    """Whether this version's numbers are there."""
    return out.exists() and json.loads(out.read_text()).get("format") == FORMAT


if __name__ == "__main__":
    if there(Path(sys.argv[1])):
        sys.exit()
    jobs = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    cases = WorstCases(copies=(1, 2, 4, 8, 16, 32, 64, 128), grids=(0.02, 0.2))
    trials = [(objective, seed) for objective in OBJECTIVES for seed in STANDARD.seeds]
    found = Parallel(n_jobs=jobs)(
        delayed(trial)(objective, seed, cases) for objective, seed in trials
    )
    by_objective = {
        name: [
            part for (objective, _), part in zip(trials, found, strict=True) if objective == name
        ]
        for name in OBJECTIVES
    }
    kept = {
        "format": FORMAT,
        "environment": describe_environment(jobs=jobs),
        "budget": BUDGET,
        "cases": asdict(cases),
        "objectives": by_objective,
    }
    Path(sys.argv[1]).write_text(json.dumps(kept, indent=1) + "\n")
