"""Runs the study of what a rotated key costs and writes its numbers, `studies/numbers/rotation.csv`.

    python studies/rotation.py [--jobs JOBS] [--seeds SEED ...] [--out FILE]

Digits at T = 3, seeds 0-2: two minutes of one core; part of `make study`. The adversary asked every query of theirs,
and holds every victim's answer, under two keys of one fitted defense.
"""

from __future__ import annotations

from typing import Final

import torch
from csv_rows import Row
from kept import NUMBERS
from torch import Tensor
from trials import run_trials

from mipoison.defenses import Defense
from mipoison.eval.adversaries.attack import attack
from mipoison.eval.adversaries.base import Attack
from mipoison.eval.adversaries.repeated import LABEL_ONLY
from mipoison.eval.methods import Method
from mipoison.eval.metrics import gain
from mipoison.eval.presets import STANDARD, lfp, of_budget, swept
from mipoison.eval.run.cell import prepare
from mipoison.eval.run.environment import one_thread
from mipoison.eval.run.setup import Setup
from mipoison.eval.scalars import derive_seed

FILE: Final = NUMBERS / "rotation.csv"
TEMPERATURE: Final = 3.0
METHODS: Final = (
    of_budget("equilibrium", 0.1),
    of_budget("generator", 0.1),
    of_budget("direction", 0.1),
    lfp(0.05),
    swept("laplace", 0.1),
)
# What an adversary makes of the answers under two keys: takes the first, averages them, or reads both.
ONE, MEAN, BESIDE = "one", "mean", "side by side"


def trial(seed: int) -> list[Row]:
    """One seed's gains against who has one answer a row, the mean of two, or two side by side."""
    with one_thread():
        setup = prepare(STANDARD, seed)
        parts = setup.parts
        roles = parts.auxiliary, parts.victims
        clean = torch.cat([setup.served(role, temperature=TEMPERATURE) for role in roles])
        single, double = [clean], []
        for method in METHODS:
            old, new = answers(setup, method, clean)
            single += [old, (old + new) / 2]
            double.append(torch.cat([old, new], -1))
        made, beside = attacked(setup, single), attacked(setup, double)
    bare = error(made, 0)
    ceiling = float(made.errors[LABEL_ONLY][0].mean())
    found: list[Row] = []
    for number, method in enumerate(METHODS):
        errors = {
            ONE: error(made, 1 + 2 * number),
            MEAN: error(made, 2 + 2 * number),
            BESIDE: error(beside, number),
        }
        found += [
            {
                "defense": method.name,
                "seed": seed,
                "answers": used,
                "gain": gain(least, bare, ceiling),
            }
            for used, least in errors.items()
        ]
    return found


def answers(setup: Setup, method: Method, clean: Tensor) -> tuple[Tensor, Tensor]:
    """The answers of one defense to clean rows before and after its key is rotated."""
    own = setup.served(setup.parts.defender, temperature=TEMPERATURE)
    defense = setup.defense(method, own)
    assert isinstance(defense, Defense)
    rotated = defense.with_key(derive_seed(setup.seed, "second key"))
    return defense(clean), rotated(clean)


def attacked(setup: Setup, systems: list[Tensor]) -> Attack:
    """What the adaptive adversary achieves on systems whose answers are those to the queries, then to the victims."""
    parts, count = setup.parts, len(setup.parts.auxiliary)
    vectors = torch.stack(systems)
    return attack(
        STANDARD.adversary,
        vectors[:, :count],
        parts.auxiliary,
        vectors[:, count:],
        parts.victims,
        seed=derive_seed(setup.seed, "adversary"),
        image_shape=parts.image_shape,
    )


def error(made: Attack, system: int) -> float:
    """The mean error of the strongest variant."""
    return float(made.errors[made.strongest(system)][system].mean())


if __name__ == "__main__":
    run_trials((trial,), __doc__, FILE)
