"""Runs the study of what finite answers certify and writes its numbers, `studies/numbers/certified.csv`.

    python studies/certified.py [--jobs JOBS] [--lfw FOLDER]

Digits, MNIST-5k and ORL faces, seeds 0-2: a quarter of an hour on two cores; part of `make study`. FOLDER holds faces
of LFW and a classifier's logits on them, see `lfw`; without it the rows of LFW stay as they are. The error without a
defense is that of the strongest measured adversary, of `results.csv`, and for LFW that of a surrogate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import torch
from csv_rows import Row, read_rows
from kept import NUMBERS
from torch import Tensor
from trials import run_trials

import mipoison as mp
from mipoison.defenses import Contract, HighConfidence, LabelOnly, Rounding, TopK
from mipoison.eval.configuration import Configuration
from mipoison.eval.data.splits import Role, joined
from mipoison.eval.presets import DEMO, FACES, MNIST
from mipoison.eval.run.cell import prepare
from mipoison.eval.run.environment import one_thread

FILE: Final = NUMBERS / "certified.csv"
Answers = Callable[[Tensor], Tensor]


class Setting(NamedTuple):
    """Data at a temperature, the run that its undefended error comes from, and budgets of codebooks."""

    data: str
    configuration: Configuration
    temperature: float
    run: str
    budgets: tuple[float, ...]


SETTINGS: Final = (
    Setting("digits", DEMO, 1.0, "standard", (0.11, 0.13, 0.15, 0.17)),
    Setting("digits", DEMO, 3.0, "standard", (0.2, 0.235, 0.265, 0.29)),
    Setting("mnist", MNIST, 1.0, "study-mnist-confident", (0.03, 0.034, 0.038, 0.042, 0.05)),
    Setting("mnist", MNIST, 4.0, "study-mnist", (0.25, 0.35, 0.45)),
    Setting("faces", FACES, 1.0, "study-faces-confident", (0.06, 0.07, 0.08)),
    Setting("faces", FACES, 4.0, "study-faces", (0.4, 0.5, 0.6)),
)
# Of LFW's people: so many are the defender's, the others are held out.
DEFENDERS: Final = 2000
LFW_BUDGETS: Final = (0.6, 0.8, 1.0)
LFW: Final = "lfw"


def undefended(setting: Setting) -> float:
    """The strongest measured adversary's error without a defense, in the seed between the others."""
    for row in read_rows(NUMBERS / "results.csv"):
        where = row["run"], float(row["temperature"]), row["defense"], row["seed"]
        if where == (setting.run, setting.temperature, "none", "middle"):
            return float(row["adaptive.mse"])
    raise ValueError(f"expected {setting.run} in results.csv at T = {setting.temperature:g}")


def finite(own: Tensor) -> Iterator[tuple[str, Answers]]:
    """Defenses of few answers that have no budget."""
    yield "label alone, one-hot", LabelOnly()
    yield "label alone, its median", Contract.fit(own, epsilon=2.0)
    yield "rounding to one decimal", Rounding(1)
    cut, top = HighConfidence(cutoff=0.2), TopK(3)
    yield "cutoff 0.2, rounding to one decimal", lambda p: Rounding(1)(cut(p))
    yield "top 3, rounding to one decimal", lambda p: Rounding(1)(top(p))


def judged(
    own: Tensor, defender: Role, p: Tensor, held: Role, budgets: tuple[float, ...], bare: float
) -> Iterator[Row]:
    """Every finite defense, fitted on the defender's rows and certified on the held-out ones."""

    def row(name: str, budget: float | str, answers: Answers) -> Row:
        q = answers(p)
        made = mp.certify(q, p, held.inputs, groups=held.rows)
        moved = (q.double() - p.double()).abs().sum(1)
        return {
            "defense": name,
            "budget": budget,
            "mean_l1": float(moved.mean()),
            "gain": made.gain(bare),
            "gain_seen": replace(made, mse=made.mse_seen).gain(bare),
            "mse": made.mse,
            "mse_seen": made.mse_seen,
            "label_mse_seen": made.label_mse_seen,
            "undefended": bare,
            "rows": made.rows,
            "answers": made.answers,
            "alone": made.alone,
        }

    for name, answers in finite(own):
        yield row(name, "", answers)
    fit = {"objective": "codebook", "groups": defender.rows}
    yield row("codebook", "", mp.LPA.fit(own, defender.inputs, **fit))
    for budget in budgets:
        try:
            book = mp.LPA.fit(own, defender.inputs, budget=budget, **fit)
        except ValueError as error:
            print(error, flush=True)
            continue
        yield row("codebook", budget, book)


def trial(setting: Setting, seed: int) -> list[Row]:
    """One seed of one setting."""
    with one_thread():
        setup = prepare(setting.configuration, seed)
        parts = setup.parts
        own = setup.served(parts.defender, temperature=setting.temperature)
        held = [
            setup.served(role, temperature=setting.temperature)
            for role in (parts.auxiliary, parts.victims)
        ]
        asked = joined(parts.auxiliary, parts.victims)
        rows = judged(
            own, parts.defender, torch.cat(held), asked, setting.budgets, undefended(setting)
        )
        where = {"data": setting.data, "temperature": setting.temperature, "seed": seed}
        return [where | row for row in rows]


def lfw(folder: Path, seed: int) -> list[Row]:
    """LFW's faces of 48×48 pixels behind ImageNet's classes, one photograph a person, at T = 1."""
    with one_thread(), np.load(folder / "lfw-faces.npz") as faces:
        generator = np.random.default_rng(seed)
        open_ = np.flatnonzero(~faces["private"])
        order = open_[generator.permutation(len(open_))]
        _, first = np.unique(faces["person"][order], return_index=True)
        chosen = torch.from_numpy(order[generator.permutation(first)])
        x = torch.from_numpy(faces["x"]).flatten(1)[chosen].float() / 255
        logits = np.load(folder / "lfw-imagenet-logits.npz")["logits"]
        p = torch.from_numpy(logits)[chosen].float().softmax(1)
        faces_of = Role(x, torch.full_like(chosen, -1), chosen)
        people = torch.arange(len(chosen))
        defender, held = (
            faces_of.where(some) for some in (people < DEFENDERS, people >= DEFENDERS)
        )
        own = p[:DEFENDERS]
        surrogate = mp.Surrogate.fit(own, defender.inputs, seed=seed)
        recovered = surrogate.reconstruct(p[DEFENDERS:])
        bare = float((recovered - held.inputs).square().mean())
        where = {"data": LFW, "temperature": 1.0, "seed": seed}
        rows = judged(own, defender, p[DEFENDERS:], held, LFW_BUDGETS, bare)
        return [where | row for row in rows]


if __name__ == "__main__":
    run_trials([partial(trial, setting) for setting in SETTINGS], __doc__, FILE, faces=(lfw,))
