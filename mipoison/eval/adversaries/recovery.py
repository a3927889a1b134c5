"""Recover undefended vectors by simulated pairs, then invert them: the attack of ModelGuard (Tang et al., 2024)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from mipoison.eval.adversaries.base import Attack, Network
from mipoison.eval.adversaries.denoiser import UNBOUNDED, Denoiser
from mipoison.eval.adversaries.mlp import MLP, PIXELS
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


def attack_denoised(
    settings: AdversarySettings,
    adaptive: Attack,
    system: int,
    queries: Tensor,
    auxiliary: Role,
    served: Tensor,
    victims: Role,
    *,
    seed: int,
    clean: Tensor | None = None,
) -> Attack:
    """Lets an adversary who holds both answers to their own queries undo every defense first.

    Args:
        settings: how hard the adversaries try.
        adaptive: the attack in which the undefended system took part; its networks on raw+log invert.
        system: the undefended system's index there.
        queries: defended vectors of the auxiliary rows, ``[E, n, K]``.
        auxiliary: the adversary's own rows.
        served: defended vectors of the victims, ``[E, M, K]``.
        victims: the rows to reconstruct.
        seed: initial weights and order of the batches.
        clean: undefended vectors of the auxiliary rows, ``[n, K]``; by default those of the system in the queries.

    Returns:
        Reconstructions and errors, a variant for each of those networks; see `Denoiser`.
    """
    fitted = len(auxiliary) - settings.held_out
    undefended = queries[system] if clean is None else clean
    held = queries[:, fitted:], undefended[fitted:]
    attacked = Attack({}, {}, {}, {})
    for inverter, floor in settings.readers.items():
        denoiser = _denoiser(
            settings,
            adaptive.networks[inverter].member(system),
            undefended[:fitted],
            log_floor=floor,
            seed=seed,
            name=f"denoiser, {inverter}",
        ).fit(queries[:, :fitted], auxiliary.inputs[:fitted], held_out=held)
        _enter(attacked, denoiser, queries[:, fitted:], auxiliary.inputs[fitted:], served, victims)
    return attacked


def _denoiser(
    settings: AdversarySettings,
    inverter: Network,
    clean: Tensor,
    *,
    log_floor: float,
    seed: int,
    name: str,
    keeps_labels: bool = False,
) -> Denoiser:
    """A denoiser as wide as the standard network."""
    undo, spot = (
        MLP(
            name=name,
            kind="raw+log",
            width=settings.width,
            epochs=settings.epochs,
            patience=settings.patience,
            batch=settings.wide_batch,
            learning_rate=settings.learning_rate,
            log_floor=log_floor,
            span=span,
            seed=own,
        )
        for own, span in ((seed, UNBOUNDED), (seed + 1, PIXELS))
    )
    return Denoiser(
        inverter, clean, undo, spot, log_floor=log_floor, keeps_labels=keeps_labels, name=name
    )


def _enter(
    attacked: Attack,
    adversary: Denoiser | MLP,
    held: Tensor,
    held_inputs: Tensor,
    served: Tensor,
    victims: Role,
) -> None:
    """Adds what an adversary makes of the victims and of the rows kept back."""
    made = adversary.reconstruct(served)
    attacked.reconstructions[adversary.name] = made
    attacked.errors[adversary.name] = row_errors(made, victims.inputs)
    kept_back = row_errors(adversary.reconstruct(held), held_inputs)
    attacked.held_out[adversary.name] = kept_back.mean(-1)


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
    seed: int,
) -> Attack:
    """Lets an adversary who can run every defense simulate answers, and learn from them to undo it.

    They ask each defense for their own vectors and others near them, under keys of their own, and add the real pairs.
    A network learns the undefended vectors, with the served label ahead wherever the defense keeps labels, and what it
    recovers is inverted, as ModelGuard's authors do. The inverse of a mean vector is no mean image: another network
    learns the images themselves, of drawn vectors those that the inverter makes of them.

    Args:
        settings: how hard the adversaries try; ``recovery_draws`` simulated answers a row.
        adaptive: the attack in which the undefended system took part.
        system: the undefended system's index there.
        simulators: one for each system.
        queries: defended vectors of the auxiliary rows, ``[E, n, K]``.
        auxiliary: the adversary's own rows.
        served: defended vectors of the victims, ``[E, M, K]``.
        victims: the rows to reconstruct.
        seed: keys, draws, initial weights and order of the batches.

    Returns:
        Reconstructions and errors of "recovery of vectors" and "recovery of images".
    """
    fitted = len(auxiliary) - settings.held_out
    own, inputs = queries[system, :fitted], auxiliary.inputs[:fitted]
    generator = torch.Generator().manual_seed(derive_seed(seed, "drawn"))
    # Their own rows first, whose images they know.
    drawn = [own, *(drawn_near(own, generator) for _ in range(settings.recovery_draws - 1))]
    keys = [derive_seed(seed, "own key", str(draw)) for draw in range(len(drawn))]
    answers = torch.stack(
        [
            torch.cat([real, *(simulate(*pair) for pair in zip(drawn, keys, strict=True))])
            for simulate, real in zip(simulators, queries[:, :fitted], strict=True)
        ]
    )
    clean = torch.cat([own, *drawn])
    floors = list(settings.readers.items())
    (first, floor), (last, deepest) = floors[0], floors[-1]
    near = adaptive.networks[last].member(system)
    known = torch.cat([inputs, inputs, *(near.reconstruct(vectors) for vectors in drawn[1:])])
    held, held_inputs = queries[:, fitted:], auxiliary.inputs[fitted:]
    of_vectors = _denoiser(
        settings,
        adaptive.networks[first].member(system),
        clean,
        log_floor=floor,
        seed=seed,
        name="recovery of vectors",
        keeps_labels=True,
    ).fit(answers, known, held_out=(held, queries[system, fitted:]))
    of_images = MLP(
        kind="raw+log",
        width=settings.wide_width,
        epochs=settings.wide_epochs,
        patience=settings.patience,
        batch=2 * settings.wide_batch,
        learning_rate=settings.learning_rate,
        log_floor=deepest,
        seed=seed,
        name="recovery of images",
    ).fit(answers, known, held_out=(held, held_inputs))
    attacked = Attack({}, {}, {}, {})
    for adversary in (of_vectors, of_images):
        _enter(attacked, adversary, held, held_inputs, served, victims)
    return attacked


def attack_undoing(
    settings: AdversarySettings,
    adaptive: Attack,
    system: int,
    simulators: Sequence[Simulator],
    queries: Tensor,
    auxiliary: Role,
    served: Tensor,
    victims: Role,
    *,
    seed: int,
) -> Attack:
    """All who undo a defense first: `attack_denoised` and, with ``recovery_draws``, `attack_recovered`."""
    sides = queries, auxiliary, served, victims
    denoised = attack_denoised(settings, adaptive, system, *sides, seed=seed)
    if not settings.recovery_draws:
        return denoised
    own = derive_seed(seed, "recovery")
    recovered = attack_recovered(settings, adaptive, system, simulators, *sides, seed=own)
    return denoised.beside(recovered)
