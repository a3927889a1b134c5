"""Runs the study of what the key is worth and writes its numbers, `studies/numbers/keys.csv`.

    python studies/keys.py [--jobs JOBS]

Digits at T = 3, budget 0.1, seeds 0-2: a quarter of an hour on two cores; part of `make study`.
"""

from __future__ import annotations

import argparse
from typing import Any, Final

from csv_rows import Row, write_rows
from joblib import Parallel, delayed
from kept import NUMBERS

from mipoison.eval.adversaries.repeated import WorstCases, grid_of, worst_cases
from mipoison.eval.presets import STANDARD, of_budget
from mipoison.eval.run.cell import deployment, prepare
from mipoison.eval.run.environment import describe_environment, one_thread

FILE: Final = NUMBERS / "keys.csv"
OBJECTIVES: Final = ("equilibrium", "generator")
BUDGET: Final = 0.1
TEMPERATURE: Final = 3.0
CASES: Final = WorstCases(copies=(1, 2, 4, 8, 16, 32, 64, 128), grids=(0.02, 0.2))


def trial(objective: str, seed: int) -> dict[str, Any]:
    """One seed's worst cases of one objective, and the width of its cells."""
    with one_thread():
        setup, method = prepare(STANDARD, seed), of_budget(objective, BUDGET)
        defense = setup.defense(method, setup.served(setup.parts.defender, temperature=TEMPERATURE))
        target = deployment(
            setup, method, defense, temperature=TEMPERATURE, adversary=STANDARD.adversary
        )
        found = worst_cases(target, CASES)
    return found | {"own_grid": grid_of(defense)}


def rows(objective: str, seed: int, found: dict[str, Any]) -> list[Row]:
    """A trial's gains: of who averages copies at each cell width, simulates other keys, or holds the key."""
    own = f"{found['own_grid']:g}"
    curves = {own: found["copies"]} | found["grids"]
    made = [
        {"adversary": "averages", "cell_width": width, "copies": count, "gain": gain}
        for width, curve in curves.items()
        for count, gain in curve.items()
    ]
    made += [
        {"adversary": name, "cell_width": own, "copies": "", "gain": found[name]}
        for name in ("other_keys", "key_leaked")
    ]
    return [{"objective": objective, "seed": seed} | row for row in made]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=1)
    jobs = parser.parse_args().jobs
    trials = [(objective, seed) for objective in OBJECTIVES for seed in STANDARD.seeds]
    found = Parallel(n_jobs=jobs)(delayed(trial)(*one) for one in trials)
    made = [row for one, gains in zip(trials, found, strict=True) for row in rows(*one, gains)]
    write_rows(FILE, made, describe_environment(jobs=jobs))
