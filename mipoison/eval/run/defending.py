"""Fit the defenses of a cell and ask them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Tensor

from mipoison.defenses import Defense as OwnDefense
from mipoison.eval.adversaries.recovery import Simulator
from mipoison.eval.configuration import Configuration
from mipoison.eval.methods import Defense, Method
from mipoison.eval.run.setup import Setup
from mipoison.eval.scores.utility import repeats, time_per_row
from mipoison.eval.targets.training import serve


def under_another_key(
    setup: Setup, method: Method, defense: Defense, own: Tensor, key: int
) -> Defense:
    """The same defense under another key; one without a key is itself, and one that is not ours is fitted again."""
    if isinstance(defense, OwnDefense):
        # Fitting takes long and does not depend on the key.
        return defense if defense._key is None else defense.with_key(key)
    return setup.defense(method, own, key=key)


@dataclass(frozen=True)
class Defended:
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


def defend(
    configuration: Configuration, setup: Setup, temperature: float, tick: Callable[[], None]
) -> Defended:
    """Fits every method's defense and asks it for the auxiliary rows and the victims.

    Args:
        configuration: the experiment.
        setup: one seed's data and target.
        temperature: the target's.
        tick: called after each method.
    """
    parts = setup.parts
    asked = torch.cat([parts.auxiliary.inputs, parts.victims.inputs])
    bare = serve(setup.model, asked, temperature=temperature)
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
    return Defended(
        everyone[:, :queried], everyone[:, queried:], costs, alike, deployed, simulators
    )


def _simulator(setup: Setup, method: Method, defense: Defense, own: Tensor) -> Simulator:
    def simulate(vectors: Tensor, key: int) -> Tensor:
        return under_another_key(setup, method, defense, own, key)(vectors)

    return simulate
