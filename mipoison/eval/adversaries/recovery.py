"""Recover undefended vectors by simulated pairs, then invert them: the attack of ModelGuard (Tang et al., 2024)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from mipoison.eval.adversaries.base import Attack
from mipoison.eval.adversaries.denoiser import Denoiser
from mipoison.eval.adversaries.lookups import NearestNeighbours
from mipoison.eval.adversaries.settings import AdversarySettings
from mipoison.eval.data.splits import Role
from mipoison.eval.metrics import row_errors
from mipoison.eval.scalars import derive_seed

# (Undefended vectors [n, K], number of a key) to what the defense answers under such a key of the adversary's own.
Simulator: TypeAlias = Callable[[Tensor, int], Tensor]


def drawn_near(clean: Tensor, generator: torch.Generator) -> Tensor:
    """New vectors between the adversary's own, ``[n, K]``: geometric means of two of a label, in a random proportion.

    They have that label, and as small entries as real ones, which draws from a Dirichlet distribution have not.

    Args:
        clean: undefended vectors, ``[n, K]``.
        generator: draws partners and proportions.

    Example:
        >>> own = torch.tensor([[0.8, 0.2], [0.9, 0.1], [0.3, 0.7]])
        >>> near = drawn_near(own, torch.Generator().manual_seed(0))
        >>> near.argmax(1).tolist(), bool(torch.allclose(near[2], own[2]))
        ([0, 0, 1], True)
    """
    logs = clean.clamp_min(torch.finfo(clean.dtype).tiny).log()
    label = clean.argmax(1)
    partner = torch.arange(len(clean))
    for t in label.unique():
        rows = (label == t).nonzero().flatten()
        partner[rows] = rows[torch.randperm(len(rows), generator=generator)]
    share = torch.rand((len(clean), 1), generator=generator)
    return torch.softmax(logs + share * (logs[partner] - logs), 1)


def attack_recovered(
    settings: AdversarySettings,
    adaptive: Attack,
    system: int,
    simulators: Sequence[Simulator],
    queries: Tensor,
    auxiliary: Role,
    served: Tensor,
    victims: Role,
    *,
    inverter: str,
    log_floor: float,
    seed: int,
) -> Attack:
    """Lets an adversary who can run every defense simulate answers, and learn from them to undo it.

    They draw vectors near their own, ask each defense for them under keys of their own, and add the real pairs. Two
    estimates of the undefended vectors are made: a network's, with the served label ahead wherever the defense keeps
    labels, and a table's, the Bayes estimate: the mean over the pairs with the nearest answers.

    Args:
        settings: how hard the adversaries try; ``recovery_draws`` simulated answers a row.
        adaptive: the attack in which the undefended system took part.
        system: the undefended system's index there.
        simulators: one for each system.
        queries: defended vectors of the auxiliary rows, ``[E, n, K]``.
        auxiliary: the adversary's own rows.
        served: defended vectors of the victims, ``[E, M, K]``.
        victims: the rows to reconstruct.
        inverter: which network of ``adaptive`` inverts.
        log_floor: the smallest entry that it looks at.
        seed: keys, draws, initial weights and order of the batches.

    Returns:
        Reconstructions and errors of "recovery, network" and "recovery, table".
    """
    fitted = len(auxiliary) - settings.held_out
    own, inputs = queries[system, :fitted], auxiliary.inputs[:fitted]
    generator = torch.Generator().manual_seed(derive_seed(seed, "drawn"))
    drawn = [drawn_near(own, generator) for _ in range(settings.recovery_draws)]
    keys = [derive_seed(seed, "own key", str(draw)) for draw in range(len(drawn))]
    answers = torch.stack(
        [
            torch.cat([real, *(simulate(*pair) for pair in zip(drawn, keys, strict=True))])
            for simulate, real in zip(simulators, queries[:, :fitted], strict=True)
        ]
    )
    clean = torch.cat([own, *drawn])
    inverted = adaptive.networks[inverter].member(system)
    network = Denoiser(
        inverted,
        clean,
        width=settings.width,
        epochs=settings.wide_epochs,
        patience=settings.patience,
        batch=2 * settings.wide_batch,
        learning_rate=settings.learning_rate,
        log_floor=log_floor,
        seed=seed,
        keeps_labels=True,
        name="recovery, network",
    ).fit(answers, clean, held_out=(queries[:, fitted:], queries[system, fitted:]))
    # Of the real pairs the adversary knows the inputs themselves.
    known = torch.cat([inputs, *(inverted.reconstruct(vectors) for vectors in drawn)])
    table = NearestNeighbours(
        neighbours=max(settings.neighbours), kind="log", log_floor=settings.log_floor
    ).fit(answers, known)
    attacked = Attack({}, {}, {}, {})
    for name, adversary in ((network.name, network), ("recovery, table", table)):
        made = adversary.reconstruct(served)
        held = row_errors(adversary.reconstruct(queries[:, fitted:]), auxiliary.inputs[fitted:])
        attacked.reconstructions[name] = made
        attacked.errors[name] = row_errors(made, victims.inputs)
        attacked.held_out[name] = held.mean(-1)
    return attacked
