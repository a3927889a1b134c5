"""Attack a keyed defense by asking again, by knowing all but the key, and by holding the key."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mipoison.defenses import LPA
from mipoison.defenses.lpa.penalized import Penalized
from mipoison.eval.adversaries import AdversarySettings
from mipoison.eval.attack import Attack, attack
from mipoison.eval.averaging import averaged, deployed
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
    """What is tried against one defense.

    Attributes:
        copies: how many answers to jittered copies of each query are averaged.
        jitter: standard deviation of the noise on every pixel, pixels in [0, 1].
        grids: cell widths of the key's hash, beside the defense's own, and ...
        grid_copies: ... how many copies are averaged there.
        draws: answers a row that are simulated under other keys.
        altered: answers to altered copies of each of their own rows that whoever holds the key computes, and ...
        altering: ... the standard deviation of the noise on every pixel there.
    """

    copies: tuple[int, ...] = (1, 8)
    jitter: float = 0.01
    grids: tuple[float, ...] = ()
    grid_copies: tuple[int, ...] = (1, 8)
    draws: int = 8
    altered: int = 8
    altering: float = 0.05


def worst_cases(
    stage: Stage,
    method: Method,
    defense: Defense,
    *,
    temperature: float,
    adversary: AdversarySettings,
    cases: WorstCases,
) -> dict[str, Any]:
    """Runs all of them.

    Args:
        stage: one seed's data and target.
        method: how the defense was made, so that it can be made with other keys.
        defense: the deployed one.
        temperature: the target's.
        adversary: how hard the adversaries try.
        cases: what is tried.

    Returns:
        JSON values: "copies" has g3 by how many answers were averaged, "grids" the same by cell width, "other_keys" g3
        of who trains on simulated draws too, "key_leaked" of who holds the key and computes answers to altered rows.

    Raises:
        TypeError: if cell widths are to be tried and the defense has none.
    """
    return _Trial(stage, method, defense, temperature, adversary).run(cases)


@dataclass(frozen=True)
class _Trial:
    """One seed's data, target and fitted defense."""

    stage: Stage
    method: Method
    defense: Defense
    temperature: float
    adversary: AdversarySettings

    def run(self, cases: WorstCases) -> dict[str, Any]:
        parts = self.stage.parts
        clean = self._clean(parts.auxiliary), self._clean(parts.victims)
        asked = [clean, *self._averages(self.defense, cases.copies, cases.jitter)]
        for grid in cases.grids:
            asked += self._averages(_of_grid(self.defense, grid), cases.grid_copies, cases.jitter)
        queries, served = (torch.stack(part) for part in zip(*asked, strict=True))
        made = self._attack(queries, parts.auxiliary, served)
        bare = made.errors[made.strongest(0)][0].mean()
        ceiling = made.errors[LABEL_ONLY][0].mean()

        def g3(attacked: Attack, system: int) -> float | None:
            error = attacked.errors[attacked.strongest(system)][system].mean()
            return gain(float(error), float(bare), float(ceiling))

        gains = [g3(made, system) for system in range(1, len(queries))]
        rest = iter(gains[len(cases.copies) :])
        informed = self._attack_with_other_keys(clean, cases.draws)
        leaked = self._attack_with_the_key(clean, cases)
        return {
            "seed": self.stage.seed,
            "copies": dict(zip(map(str, cases.copies), gains, strict=False)),
            "grids": {
                f"{grid:g}": {str(n): next(rest) for n in cases.grid_copies} for grid in cases.grids
            },
            "other_keys": g3(informed, 0),
            "key_leaked": g3(leaked, 0),
            "strongest": {"one_key": made.strongest(1), "other_keys": informed.strongest(0)},
        }

    def _clean(self, role: Role) -> Tensor:
        return self.stage.served(role, temperature=self.temperature)

    def _averages(
        self, defense: Defense, counts: Sequence[int], jitter: float
    ) -> list[tuple[Tensor, Tensor]]:
        """Mean answers to the queries and to the victims' rows, for each count."""
        ask = deployed(self.stage.model, defense, temperature=self.temperature)
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
            self.adversary,
            queries,
            auxiliary,
            served,
            self.stage.parts.victims,
            seed=derive_seed(self.stage.seed, "adversary"),
            image_shape=self.stage.parts.image_shape,
        )

    def _attack_with_other_keys(self, clean: tuple[Tensor, Tensor], draws: int) -> Attack:
        def under(key: int) -> Defense:
            fitted = self.defense
            if isinstance(fitted, LPA):
                # Fitting knows nothing of the key, and takes long.
                return LPA(fitted.objective, epsilon=fitted.epsilon, norm=fitted.norm, key=key)
            return self.stage.defense(self.method, self._clean(self.stage.parts.defender), key=key)

        return self._attack_with(under, clean, draws)

    def _attack_with_the_key(self, clean: tuple[Tensor, Tensor], cases: WorstCases) -> Attack:
        """Who holds the key computes what the deployment would answer, to as many altered rows as they like."""
        own = self.stage.parts.auxiliary

        def to_copies(seed: int) -> Defense:
            noise = torch.randn(own.inputs.shape, generator=torch.Generator().manual_seed(seed))
            copies = (own.inputs + cases.altering * noise).clamp(0.0, 1.0)
            answers = self.defense(serve(self.stage.model, copies, temperature=self.temperature))
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
            held_out=self.adversary.held_out,
            seed=self.stage.seed,
        )
        return self._attack(vectors.unsqueeze(0), rows, self.defense(clean[1]).unsqueeze(0))


def grid_of(defense: Defense) -> float:
    """Width of the cells of a defense's key.

    Raises:
        TypeError: if it has none.
    """
    return _priced(defense).key_cells.grid


def _of_grid(defense: Defense, grid: float) -> Defense:
    """The same defense with cells of another width."""
    other = copy.deepcopy(defense)
    _priced(other).key_cells.grid = grid
    return other


def _priced(defense: Defense) -> Penalized:
    objective = getattr(defense, "objective", None)
    if not isinstance(objective, Penalized):
        raise TypeError(
            f"grids: expected LPA with objective equilibrium or generator, got {type(defense).__name__}"
        )
    return objective
