"""Runs what leaks from traffic that a defense was not fitted for, and writes `studies/numbers/unlike.csv`.

    python studies/unlike.py [--jobs JOBS]

Digits at T = 1 and 3, budget 0.1, seeds 0-2. The adversary's images and the victims' come as they are, inverted, blurry
(the mean of 3 x 3 pixels, twice) and as uniform noise in their place. The defense is fitted on plain images. Four
minutes on one core; part of `make study`.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any, Final

import torch
from csv_rows import Row, write_rows
from drift import altered
from joblib import Parallel, delayed
from unlike_section import FILE

from mipoison.eval.adversaries.attack import attack
from mipoison.eval.adversaries.base import STANDARD as STANDARD_NETWORK
from mipoison.eval.metrics import gain, row_gain
from mipoison.eval.presets import NONE, STANDARD, of_budget, swept
from mipoison.eval.run.cell import prepare
from mipoison.eval.run.environment import describe_environment, one_thread
from mipoison.eval.scalars import derive_seed
from mipoison.eval.scores.utility import utility
from mipoison.eval.targets.training import serve

BUDGET: Final = 0.1
TEMPERATURES: Final = (1.0, 3.0)
METHODS: Final = (NONE, of_budget("equilibrium", BUDGET), swept("laplace", BUDGET))


def trial(temperature: float, seed: int) -> list[Row]:
    """One seed: what is served of each kind of traffic, and what the adversaries make of it."""
    with one_thread():
        setup = prepare(STANDARD, seed)
        parts = setup.parts
        own = setup.served(parts.defender, temperature=temperature)
        defenses = [setup.defense(method, own) for method in METHODS]
        kinds = [
            altered(role.inputs, parts.image_shape, derive_seed(seed, "noise", name))
            for name, role in (("auxiliary", parts.auxiliary), ("victims", parts.victims))
        ]
        made: list[Row] = []
        for traffic in kinds[0]:
            roles = [
                replace(role, inputs=kind[traffic])
                for role, kind in zip((parts.auxiliary, parts.victims), kinds, strict=True)
            ]
            bare = [serve(setup.model, role.inputs, temperature=temperature) for role in roles]
            queries, served = (
                torch.stack([defense(rows) for defense in defenses]) for rows in bare
            )
            found = attack(
                STANDARD.adversary,
                queries,
                roles[0],
                served,
                roles[1],
                seed=derive_seed(seed, "adversary"),
                image_shape=parts.image_shape,
            )
            given = {"temperature": temperature, "seed": seed, "traffic": traffic}
            made += [given | row for row in _scores(found, served)]
        return made


def _scores(found: Any, served: torch.Tensor) -> list[Row]:
    """One row a defense."""
    label_only = float(found.errors["label only"][0].mean())
    standard, strongest = found.errors[STANDARD_NETWORK], found.strongest(0)
    undefended = found.errors[strongest][0]
    rows: list[Row] = []
    for system, method in enumerate(METHODS):
        moved = utility(served[0], served[system], None)
        variant = found.strongest(system)
        errors = found.errors[variant][system]
        rows.append(
            {
                "defense": method.name,
                "l1": moved["l1_mean"],
                "unchanged": moved["unchanged"],
                "mse": float(errors.mean()),
                "label_only": label_only,
                "g2": gain(float(standard[system].mean()), float(standard[0].mean()), label_only),
                "g3": gain(float(errors.mean()), float(undefended.mean()), label_only),
                "median": row_gain(errors, undefended, label_only).median,
                "strongest": variant,
            }
        )
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=1)
    jobs = parser.parse_args().jobs
    trials = [(t, s) for t in TEMPERATURES for s in STANDARD.seeds]
    rows = Parallel(n_jobs=jobs)(delayed(trial)(*one) for one in trials)
    write_rows(FILE, [row for some in rows for row in some], describe_environment(jobs=jobs))
