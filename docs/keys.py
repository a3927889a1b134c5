"""Runs the study of what the key is worth and keeps its numbers in docs/study/keys.json.

    python docs/keys.py [JOBS]

Digits at T = 3, budget 0.1, seeds 0-2; part of `make study-defenses`, unless the numbers are there.
docs/study_page.py writes the page.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from joblib import Parallel, delayed

from mipoison.eval.environment import describe_environment
from mipoison.eval.presets import of_budget
from mipoison.eval.studies import DIGITS
from mipoison.eval.worst_cases import WorstCases, worst_cases

KEPT = Path(__file__).parent / "study/keys.json"
OBJECTIVES = ("equilibrium", "generator")
BUDGET = 0.1

if __name__ == "__main__":
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    cases = WorstCases()
    trials = [(objective, seed) for objective in OBJECTIVES for seed in DIGITS.seeds]
    found = Parallel(n_jobs=jobs)(
        delayed(worst_cases)(DIGITS, of_budget(objective, BUDGET), seed, cases)
        for objective, seed in trials
    )
    by_objective = {
        name: [
            part for (objective, _), part in zip(trials, found, strict=True) if objective == name
        ]
        for name in OBJECTIVES
    }
    kept = {
        "environment": describe_environment(jobs=jobs),
        "budget": BUDGET,
        "cases": asdict(cases),
        "objectives": by_objective,
    }
    KEPT.write_text(json.dumps(kept, indent=1) + "\n")
