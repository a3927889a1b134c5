"""Attack a keyed defense by averaging repeated queries, by simulating other keys, and by holding the key."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mipoison.defenses.lpa.penalized import Penalized
from mipoison.eval.adversaries.base import Attack
from mipoison.eval.data.splits import Role, Split
from mipoison.eval.methods import Defense
from mipoison.eval.metrics import gain
from mipoison.eval.scalars import derive_seed, whole
from mipoison.eval.targets.training import serve

Ask = Callable[[Tensor], Tensor]


def deployed(model: nn.Module, defense: Defense, *, temperature: float) -> Ask:
    """Returns what the adversary can ask: inputs ``[n, D]`` to defended vectors ``[n, K]``.

    Args:
        model: the target classifier, inputs to logits.
        defense: served to defended vectors.
        temperature: the target's.
    """
    return lambda inputs: defense(serve(model, inputs, temperature=temperature))


def averaged(
    ask: Ask, inputs: Tensor, *, copies: Sequence[int], jitter: float, seed: int
) -> dict[int, Tensor]:
    """Returns the mean answer to each query and its jittered copies.

    The first copy is the query itself; the others have Gaussian noise added to every pixel and are
    cut at 0 and 1. Larger counts contain the copies of smaller ones, so that a curve over counts
    costs what its last point does. Ask for auxiliary rows and victims in one call, or with seeds
    of their own.

    Args:
        ask: the deployed system, see `deployed`.
        inputs: the queries, ``[n, D]``, pixels in [0, 1].
        copies: how many answers are averaged, each at least 1.
        jitter: standard deviation of the noise; 0 repeats the query exactly.
        seed: of the noise.

    Returns:
        Count to vectors ``[n, K]`` in float32, in the order of the counts.

    Raises:
        ValueError: if a count is below 1 or the jitter is negative.

    Example:
        >>> means = averaged(lambda x: x, torch.tensor([[0.5, 0.5]]), copies=(1, 64), jitter=0.1, seed=0)
        >>> means[1].tolist(), bool((means[64] - 0.5).abs().max() < 0.05)
        ([[0.5, 0.5]], True)
    """
    if not copies or min(copies) < 1:
        raise ValueError(f"copies: expected counts >= 1, got {tuple(copies)}")
    if not jitter >= 0:
        raise ValueError(f"jitter: expected a number >= 0, got {jitter}")
    generator = torch.Generator().manual_seed(whole("seed", seed))
    # In float64 the mean of equal answers is that answer, to the bit.
    total = ask(inputs).double()
    means = {1: total.float()}
    for count in range(2, max(copies) + 1):
        noise = torch.randn(inputs.shape, generator=generator)
        total = total + ask((inputs + jitter * noise).clamp(0.0, 1.0)).double()
        if count in copies:
            means[count] = (total / count).float()
    return {count: means[count] for count in copies}


def simulated_draws(
    build: Callable[[int], Defense],
    clean: Tensor,
    queries: Tensor,
    auxiliary: Role,
    *,
    draws: int,
    held_out: int,
    seed: int,
) -> tuple[Tensor, Role]:
    """Returns the queries and auxiliary rows of `attack`, with simulated answers added.

    Each row that is trained on comes with its real answer and ``draws`` simulated ones. The rows
    kept back stay at the end, with their real answers alone: an adversary chooses its variant by
    the system that it attacks.

    Args:
        build: key to defense, everything but the key being the deployment's own. Where fitting
            is slow, fit once and give the fitted defense another key.
        clean: undefended vectors of the auxiliary rows, ``[n, K]``: the adversary has the model.
        queries: what the deployed defense answered, ``[n, K]``.
        auxiliary: the adversary's own rows.
        draws: simulated answers a row.
        held_out: rows at the end that are kept back.
        seed: of the adversary's keys.

    Returns:
        Vectors ``[(draws + 1) * (n - held_out) + held_out, K]``, and the rows behind them.

    Raises:
        ValueError: if there is nothing to draw.

    Example:
        >>> own = Role(torch.rand(5, 4), torch.zeros(5), torch.arange(5))
        >>> p = torch.full((5, 2), 0.5)
        >>> vectors, rows = simulated_draws(
        ...     lambda key: lambda served: served, p, p, own, draws=2, held_out=2, seed=0
        ... )
        >>> rows.rows.tolist()
        [0, 1, 2, 0, 1, 2, 0, 1, 2, 3, 4]
    """
    if draws < 1:
        raise ValueError(f"draws: expected a number >= 1, got {draws}")
    fitted = len(auxiliary) - held_out
    keys = [derive_seed(seed, "simulated key", str(draw)) for draw in range(draws)]
    answers = [queries[:fitted], *(build(key)(clean[:fitted]) for key in keys), queries[fitted:]]
    positions = torch.arange(fitted).repeat(draws + 1)
    order = torch.cat([positions, torch.arange(fitted, len(auxiliary))])
    return torch.cat(answers), auxiliary.where(order)


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
        altered: answers to altered copies of each query that the holder of the key computes, and ...
        altering: ... the standard deviation of the noise on every pixel there.
    """

    copies: tuple[int, ...] = (1, 8)
    jitter: float = 0.01
    grids: tuple[float, ...] = ()
    grid_copies: tuple[int, ...] = (1, 8)
    draws: int = 8
    altered: int = 8
    altering: float = 0.05


@dataclass(frozen=True)
class Deployment:
    """One seed's deployed system, and the adversaries that attack it.

    Attributes:
        seed: the experiment's.
        parts: the data by role.
        model: the target classifier, inputs to logits.
        temperature: the target's.
        defense: the deployed one.
        refit: key to the same defense under another key.
        attack: (defended vectors of the adversary's queries ``[E, n, K]``, those rows, defended vectors of the victims
            ``[E, M, K]``) to what the adversaries achieve.
        held_out: rows at the end of the queries that the adversaries keep back.
    """

    seed: int
    parts: Split
    model: nn.Module
    temperature: float
    defense: Defense
    refit: Callable[[int], Defense]
    attack: Callable[[Tensor, Role, Tensor], Attack]
    held_out: int

    def clean(self, role: Role) -> Tensor:
        """The undefended vectors of a role's rows."""
        return serve(self.model, role.inputs, temperature=self.temperature)


def worst_cases(deployment: Deployment, cases: WorstCases) -> dict[str, Any]:
    """Runs all of them.

    Args:
        deployment: what is attacked.
        cases: what is tried.

    Returns:
        JSON values: "copies" has g3 by how many answers were averaged, "grids" the same by cell width, "other_keys" g3
        of who trains on simulated draws too, "key_leaked" of who holds the key and computes answers to altered rows.

    Raises:
        TypeError: if cell widths are to be tried and the defense has none.
    """
    parts = deployment.parts
    clean = deployment.clean(parts.auxiliary), deployment.clean(parts.victims)
    asked = [clean, *_averages(deployment, deployment.defense, cases.copies, cases.jitter)]
    for grid in cases.grids:
        regridded = _of_grid(deployment.defense, grid)
        asked += _averages(deployment, regridded, cases.grid_copies, cases.jitter)
    queries, served = (torch.stack(part) for part in zip(*asked, strict=True))
    made = deployment.attack(queries, parts.auxiliary, served)
    bare = made.errors[made.strongest(0)][0].mean()
    ceiling = made.errors[LABEL_ONLY][0].mean()

    def g3(attacked: Attack, system: int) -> float | None:
        error = attacked.errors[attacked.strongest(system)][system].mean()
        return gain(float(error), float(bare), float(ceiling))

    gains = [g3(made, system) for system in range(1, len(queries))]
    rest = iter(gains[len(cases.copies) :])
    informed = _attack_with(deployment, deployment.refit, clean, cases.draws)
    leaked = _attack_with(deployment, _with_the_key(deployment, cases), clean, cases.altered)
    return {
        "seed": deployment.seed,
        "copies": dict(zip(map(str, cases.copies), gains, strict=False)),
        "grids": {
            f"{grid:g}": {str(n): next(rest) for n in cases.grid_copies} for grid in cases.grids
        },
        "other_keys": g3(informed, 0),
        "key_leaked": g3(leaked, 0),
        "strongest": {"one_key": made.strongest(1), "other_keys": informed.strongest(0)},
    }


def _averages(
    deployment: Deployment, defense: Defense, counts: Sequence[int], jitter: float
) -> list[tuple[Tensor, Tensor]]:
    """Mean answers to the queries and to the victims' rows, for each count."""
    ask = deployed(deployment.model, defense, temperature=deployment.temperature)
    of_role: list[Mapping[int, Tensor]] = [
        averaged(
            ask,
            role.inputs,
            copies=counts,
            jitter=jitter,
            seed=derive_seed(deployment.seed, "jitter", name),
        )
        for name, role in (
            ("auxiliary", deployment.parts.auxiliary),
            ("victims", deployment.parts.victims),
        )
    ]
    return [(of_role[0][count], of_role[1][count]) for count in counts]


def _with_the_key(deployment: Deployment, cases: WorstCases) -> Callable[[int], Defense]:
    """Seed to what the deployment answers to altered copies of the queries: the key's holder computes it at will."""
    queries = deployment.parts.auxiliary.inputs

    def to_copies(seed: int) -> Defense:
        noise = torch.randn(queries.shape, generator=torch.Generator().manual_seed(seed))
        copies = (queries + cases.altering * noise).clamp(0.0, 1.0)
        clean = serve(deployment.model, copies, temperature=deployment.temperature)
        answers = deployment.defense(clean)
        return lambda rows: answers[: len(rows)]

    return to_copies


def _attack_with(
    deployment: Deployment,
    build: Callable[[int], Defense],
    clean: tuple[Tensor, Tensor],
    draws: int,
) -> Attack:
    """Trains on simulated answers beside the real ones."""
    vectors, rows = simulated_draws(
        build,
        clean[0],
        deployment.defense(clean[0]),
        deployment.parts.auxiliary,
        draws=draws,
        held_out=deployment.held_out,
        seed=deployment.seed,
    )
    victims = deployment.defense(clean[1])
    return deployment.attack(vectors.unsqueeze(0), rows, victims.unsqueeze(0))


def grid_of(defense: Defense) -> float:
    """Width of the cells of a defense's key.

    Raises:
        TypeError: if it has none.
    """
    return _penalized(defense).key_cells.grid


def _of_grid(defense: Defense, grid: float) -> Defense:
    """The same defense with cells of another width."""
    other = copy.deepcopy(defense)
    _penalized(other).key_cells.grid = grid
    return other


def _penalized(defense: Defense) -> Penalized:
    objective = getattr(defense, "objective", None)
    if not isinstance(objective, Penalized):
        raise TypeError(
            f"grids: expected LPA with objective equilibrium or generator, got {type(defense).__name__}"
        )
    return objective
