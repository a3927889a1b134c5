"""Run one cell of an experiment: one seed at one temperature, every defense, every adversary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mipoison.defenses import Defense as OwnDefense
from mipoison.eval.adversaries.attack import attack, attack_trained_clean
from mipoison.eval.adversaries.base import Attack, device_name, repeatable
from mipoison.eval.adversaries.recovery import Simulator, attack_undoing
from mipoison.eval.adversaries.repeated import Deployment, WorstCases, worst_cases
from mipoison.eval.adversaries.settings import AdversarySettings
from mipoison.eval.configuration import Configuration
from mipoison.eval.data.loading import split
from mipoison.eval.data.splits import Role, joined
from mipoison.eval.methods import Defense, Method
from mipoison.eval.run.environment import one_thread
from mipoison.eval.run.setup import Setup
from mipoison.eval.scalars import derive_seed, real, whole
from mipoison.eval.scores.certified import certificates
from mipoison.eval.scores.lpips import given_lpips
from mipoison.eval.scores.pictures import pictures
from mipoison.eval.scores.utility import repeats, time_per_row, utility
from mipoison.eval.scores.victims import (
    Judge,
    crossings,
    curves_of,
    doubling,
    floors,
    independent_evaluator,
    scores_of,
    variants_of,
)


@dataclass(frozen=True)
class Cell:
    """What one cell yields.

    Attributes:
        numbers: plain JSON values.
        images: arrays for the picture of the victims: "originals" ``[V, H, W]``, "label only" and
            one entry a defense, the strongest adversary's reconstruction of the same victims.
    """

    numbers: dict[str, Any]
    images: dict[str, npt.NDArray[np.float32]]


def steps_of(configuration: Configuration) -> int:
    """Returns how often `run_cell` calls ``tick``."""
    settings = configuration.adversary
    wide = 1 + len(settings.readers) + len(settings.losses)
    epochs = settings.epochs + wide * settings.wide_epochs
    epochs += len(settings.decoders) * settings.decoder_epochs
    return 2 + len(configuration.methods) + len(configuration.worst_case_methods) + 3 * epochs


def run_cell(
    configuration: Configuration,
    seed: int,
    temperature: float,
    *,
    tick: Callable[[], None] = lambda: None,
) -> Cell:
    """Trains the target, fits the defenses, attacks them and measures, on one thread.

    Args:
        configuration: the experiment.
        seed: of split, target, defenses and adversaries, each by a stream of its own.
        temperature: softmax temperature that the target is served at.
        tick: called after each piece of work, for progress bars.

    Returns:
        The cell's numbers and pictures; the same on the same machine at every run, but for times.
    """
    with one_thread(), repeatable():
        return _run(configuration, whole("seed", seed), real("temperature", temperature), tick)


def _run(
    configuration: Configuration, seed: int, temperature: float, tick: Callable[[], None]
) -> Cell:
    started = perf_counter()
    settings = configuration.adversary
    setup = prepare(configuration, seed)
    parts = setup.parts
    tick()
    defended = _defend(configuration, setup, temperature, tick)
    queries, served = defended.queries, defended.victims
    adversary_seed = derive_seed(seed, "adversary")
    names = [method.name for method in configuration.methods]
    bare = names.index("none")
    adaptive = attack(
        settings,
        queries,
        parts.auxiliary,
        served,
        parts.victims,
        seed=adversary_seed,
        image_shape=parts.image_shape,
        tick=tick,
    )
    clean = attack_trained_clean(adaptive, bare, served, parts.victims)
    denoised = attack_undoing(
        settings,
        adaptive,
        bare,
        defended.simulators,
        queries,
        parts.auxiliary,
        served,
        parts.victims,
        seed=derive_seed(seed, "denoiser"),
    )
    tick()
    checked = [names.index(name) for name in configuration.checked_methods]
    longer = attack(
        settings,
        queries[checked],
        parts.auxiliary,
        served[checked],
        parts.victims,
        seed=adversary_seed,
        stretch=2,
        image_shape=parts.image_shape,
        tick=tick,
    )
    label_only = float(adaptive.errors["label only"][bare].mean())
    evaluator = independent_evaluator(
        parts, configuration.target, configuration.evaluator, seed=derive_seed(seed, "evaluator")
    )
    judge = Judge(parts, evaluator, bare, label_only, given_lpips(configuration.lpips))
    undefended = min(
        float(made.errors[made.strongest(bare)][bare].mean()) for made in (adaptive, denoised)
    )
    certified = certificates(parts, queries, served, bare, undefended=undefended)
    crossed = crossings(adaptive, clean, served, parts.victims, bare)
    true = setup.columns(parts.victims)
    defenses = {
        name: {
            "attacks": scores_of(judge, adaptive, clean, denoised, system),
            "variants": variants_of(adaptive, clean, denoised, system),
            "utility": utility(served[bare], served[system], true)
            | {"repeats": defended.repeats[name]},
            "cost": defended.costs[name],
            "train_test": crossed[system],
            "curves": curves_of(adaptive, system),
            "certificate": certified[system],
        }
        for system, name in enumerate(names)
    }
    asked_again = {}
    for method in configuration.methods:
        if method.name in defended.deployed:
            defense = defended.deployed[method.name]
            target = deployment(setup, method, defense, temperature=temperature, adversary=settings)
            asked_again[method.name] = worst_cases(target, WorstCases())
            tick()
    numbers = {
        "seed": seed,
        "temperature": temperature,
        "adversaries_on": device_name(),
        "target": {
            "private_accuracy": setup.accuracy(parts.private),
            "accuracy": setup.accuracy(parts.victims),
            "evaluator_accuracy": None if evaluator is None else evaluator.accuracy,
        },
        "floors": floors(parts) | {"label_only": label_only},
        "defenses": defenses,
        "doubled_epochs": doubling(adaptive, longer, checked, names, label_only, bare),
        "worst_cases": asked_again,
        "seconds": perf_counter() - started,
    }
    return Cell(numbers, pictures(parts, adaptive, names, bare, shown=configuration.victims_shown))


def prepare(configuration: Configuration, seed: int) -> Setup:
    """Splits the data and trains the target, or loads one that is not ours.

    Raises:
        ValueError: if the adversary has too few rows, or a part of the configuration does not fit the data.
    """
    parts = split(configuration.dataset, seed=seed, auxiliary=configuration.auxiliary)
    configuration.adversary.check_rows(len(parts.auxiliary))
    return Setup.of(parts, configuration.target, epochs=configuration.target_epochs, seed=seed)


def deployment(
    setup: Setup,
    method: Method,
    defense: Defense,
    *,
    temperature: float,
    adversary: AdversarySettings,
) -> Deployment:
    """A fitted defense as adversaries meet it who ask again or know more.

    Args:
        setup: one seed's data and target.
        method: how the defense was made, so that it can be made with other keys.
        defense: the deployed one.
        temperature: the target's.
        adversary: how hard the adversaries try.
    """
    parts, model = setup.parts, setup.model
    # A configuration of stored answers names no worst cases.
    assert model is not None
    own = setup.served(parts.defender, temperature=temperature)

    def refit(key: int) -> Defense:
        return _under_another_key(setup, method, defense, own, key)

    def attacked(queries: Tensor, auxiliary: Role, served: Tensor) -> Attack:
        return attack(
            adversary,
            queries,
            auxiliary,
            served,
            parts.victims,
            seed=derive_seed(setup.seed, "adversary"),
            image_shape=parts.image_shape,
        )

    return Deployment(
        seed=setup.seed,
        parts=parts,
        model=model,
        temperature=temperature,
        defense=defense,
        refit=refit,
        attack=attacked,
        held_out=adversary.held_out,
    )


def _under_another_key(
    setup: Setup, method: Method, defense: Defense, own: Tensor, key: int
) -> Defense:
    """The same defense under another key; one without a key is itself, and one that is not ours is fitted again."""
    if isinstance(defense, OwnDefense):
        # Fitting takes long and does not depend on the key.
        return defense if defense._key is None else defense.with_key(key)
    return setup.defense(method, own, key=key)


@dataclass(frozen=True)
class _Defended:
    """What all defenses answered.

    Attributes:
        queries: to the auxiliary rows, ``[E, n, K]``.
        victims: to the victims, ``[E, M, K]``.
        costs: by name, seconds to fit and microseconds a row.
        repeats: by name, the share of rows that were answered alike when asked again.
        deployed: those that the worst cases ask.
        simulators: of each method, what it answers under keys of an adversary's own.
    """

    queries: Tensor
    victims: Tensor
    costs: dict[str, dict[str, float]]
    repeats: dict[str, float]
    deployed: dict[str, Defense]
    simulators: list[Simulator]


def _defend(
    configuration: Configuration, setup: Setup, temperature: float, tick: Callable[[], None]
) -> _Defended:
    parts = setup.parts
    bare = setup.served(joined(parts.auxiliary, parts.victims), temperature=temperature)
    own = setup.served(parts.defender, temperature=temperature)
    answers, costs, alike, deployed = [], {}, {}, {}
    simulators: list[Simulator] = []
    for method in configuration.methods:
        started = perf_counter()
        defense = setup.defense(method, own)
        fit_seconds = perf_counter() - started
        answer, row_seconds = time_per_row(defense, bare)
        answers.append(answer)
        alike[method.name] = repeats(defense, bare, answer)
        simulators.append(_simulator(setup, method, defense, own))
        if method.name in configuration.worst_case_methods:
            deployed[method.name] = defense
        costs[method.name] = {
            "fit_seconds": fit_seconds,
            "microseconds_per_row": row_seconds * 1e6 if method.builder != "none" else 0.0,
        }
        tick()
    everyone = torch.stack(answers)
    queried = len(parts.auxiliary)
    return _Defended(
        everyone[:, :queried], everyone[:, queried:], costs, alike, deployed, simulators
    )


def _simulator(setup: Setup, method: Method, defense: Defense, own: Tensor) -> Simulator:
    def simulate(vectors: Tensor, key: int) -> Tensor:
        return _under_another_key(setup, method, defense, own, key)(vectors)

    return simulate
