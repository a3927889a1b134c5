"""Measure LPA where its key matters: an adversary who averages jittered copies, or knows all but the key."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mipoison.defenses import LPA
from mipoison.defenses.lpa.priced import Priced
from mipoison.eval.attack import Attack, attack
from mipoison.eval.averaging import averaged, deployed
from mipoison.eval.configuration import Configuration
from mipoison.eval.data import Role
from mipoison.eval.methods import Defense, Method
from mipoison.eval.metrics import gain
from mipoison.eval.seeding import derive_seed
from mipoison.eval.simulation import simulated_draws
from mipoison.eval.stage import Stage
from mipoison.eval.targets import serve

LABEL_ONLY = "label only"


@dataclass(frozen=True)
class WorstCases:
    """What is tried against one keyed defense.

    Attributes:
        copies: how many answers to jittered copies of each query are averaged.
        jitter: standard deviation of the noise on every pixel, pixels in [0, 1].
        grids: cell widths of the key's hash, beside the defense's own, and ...
        grid_copies: ... how many copies are averaged there.
        draws: answers a row that are simulated under other keys.
        altered: answers to altered copies of each of their own rows that whoever holds the key computes, and ...
        altering: ... the standard deviation of the noise on every pixel there.
    """

    copies: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128)
    jitter: float = 0.01
    grids: tuple[float, ...] = (0.02, 0.2)
    grid_copies: tuple[int, ...] = (1, 8)
    draws: int = 8
    altered: int = 8
    altering: float = 0.05


def worst_cases(
    configuration: Configuration, method: Method, seed: int, cases: WorstCases
) -> dict[str, Any]:
    """Runs all of them on one thread.

    Args:
        configuration: data, target, temperature (its first) and adversaries; its methods play no part.
        method: a defense that is an `LPA`.
        seed: of everything, by streams of their own.
        cases: what is tried.

    Returns:
        JSON values: "copies" has g3 by how many answers were averaged, "grids" the same by cell width, "other_keys" g3
        of who trains on simulated draws too, "key_leaked" of who holds the key and computes answers to altered rows.

    Raises:
        TypeError: if the method is no `LPA` whose key has a cell width of its own.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _Trial.start(configuration, method, seed).run(cases)
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True)
class _Trial:
    """One seed's data, target and fitted defense."""

    stage: Stage
    configuration: Configuration
    defense: LPA

    @classmethod
    def start(cls, configuration: Configuration, method: Method, seed: int) -> _Trial:
        stage = Stage.of(configuration, seed)
        temperature = configuration.temperatures[0]
        defender = stage.parts.defender
        defense = method.build(
            serve(stage.model, defender.inputs, temperature=temperature),
            defender.inputs,
            key=derive_seed(seed, "key"),
            seed=derive_seed(seed, "surrogate"),
            groups=defender.rows,
        )
        if not isinstance(defense, LPA):
            raise TypeError(f"method {method.name!r}: expected LPA, got {type(defense).__name__}")
        return cls(stage, configuration, defense)

    def run(self, cases: WorstCases) -> dict[str, Any]:
        own = _priced(self.defense).cells.grid
        parts = self.stage.parts
        clean = self._clean(parts.auxiliary), self._clean(parts.victims)
        asked = [clean, *self._averages(own, cases.copies, cases.jitter)]
        for grid in cases.grids:
            asked += self._averages(grid, cases.grid_copies, cases.jitter)
        queries, served = (torch.stack(part) for part in zip(*asked, strict=True))
        made = self._attack(queries, parts.auxiliary, served)
        bare = made.errors[made.strongest(0)][0].mean()
        ceiling = made.errors[LABEL_ONLY][0].mean()

        def g3(attacked: Attack, system: int) -> float:
            error = attacked.errors[attacked.strongest(system)][system].mean()
            return gain(float(error), float(bare), float(ceiling))

        gains = [g3(made, system) for system in range(1, len(queries))]
        curve = dict(zip(map(str, cases.copies), gains, strict=False))
        rest = iter(gains[len(cases.copies) :])
        grids = {
            f"{grid:g}": {str(n): next(rest) for n in cases.grid_copies} for grid in cases.grids
        }
        informed = self._attack_with_other_keys(clean, cases.draws)
        leaked = self._attack_with_the_key(clean, cases)
        return {
            "seed": self.stage.seed,
            "own_grid": own,
            "copies": curve,
            "grids": grids,
            "other_keys": g3(informed, 0),
            "key_leaked": g3(leaked, 0),
            "strongest": {"one_key": made.strongest(1), "other_keys": informed.strongest(0)},
        }

    def _clean(self, role: Role) -> Tensor:
        return serve(self.stage.model, role.inputs, temperature=self.configuration.temperatures[0])

    def _averages(
        self, grid: float, counts: Sequence[int], jitter: float
    ) -> list[tuple[Tensor, Tensor]]:
        """Mean answers to the queries and to the victims' rows, for each count."""
        defense = copy.deepcopy(self.defense)
        _priced(defense).cells.grid = grid
        ask = deployed(self.stage.model, defense, temperature=self.configuration.temperatures[0])
        of_role: list[Mapping[int, Tensor]] = [
            averaged(
                ask,
                role.inputs,
                copies=counts,
                jitter=jitter,
                seed=derive_seed(self.stage.seed, "jitter", name),
            )
            for name, role in (
                ("auxiliary", self.stage.parts.auxiliary),
                ("victims", self.stage.parts.victims),
            )
        ]
        return [(of_role[0][count], of_role[1][count]) for count in counts]

    def _attack(self, queries: Tensor, auxiliary: Role, served: Tensor) -> Attack:
        return attack(
            self.configuration.adversary,
            queries,
            auxiliary,
            served,
            self.stage.parts.victims,
            seed=derive_seed(self.stage.seed, "adversary"),
            image_shape=self.stage.parts.image_shape,
        )

    def _attack_with_other_keys(self, clean: tuple[Tensor, Tensor], draws: int) -> Attack:
        def under(key: int) -> LPA:
            fitted = self.defense
            return LPA(fitted.objective, epsilon=fitted.epsilon, norm=fitted.norm, key=key)

        return self._attack_with(under, clean, draws)

    def _attack_with_the_key(self, clean: tuple[Tensor, Tensor], cases: WorstCases) -> Attack:
        """Who holds the key computes what the deployment would answer, to as many altered rows as they like."""
        own = self.stage.parts.auxiliary
        temperature = self.configuration.temperatures[0]

        def to_copies(seed: int) -> Defense:
            noise = torch.randn(own.inputs.shape, generator=torch.Generator().manual_seed(seed))
            copies = (own.inputs + cases.altering * noise).clamp(0.0, 1.0)
            answers = self.defense(serve(self.stage.model, copies, temperature=temperature))
            return lambda rows: answers[: len(rows)]

        return self._attack_with(to_copies, clean, cases.altered)

    def _attack_with(
        self, build: Callable[[int], Defense], clean: tuple[Tensor, Tensor], draws: int
    ) -> Attack:
        """Trains on simulated answers beside the real ones."""
        vectors, rows = simulated_draws(
            build,
            clean[0],
            self.defense(clean[0]),
            self.stage.parts.auxiliary,
            draws=draws,
            held_out=self.configuration.adversary.held_out,
            seed=self.stage.seed,
        )
        return self._attack(vectors.unsqueeze(0), rows, self.defense(clean[1]).unsqueeze(0))


def _priced(defense: LPA) -> Priced:
    objective = defense.objective
    if not isinstance(objective, Priced):
        raise TypeError(f"expected the objective equilibrium or generator, got {objective.name!r}")
    return objective
