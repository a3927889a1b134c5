"""Let every adversary attack E defended systems side by side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mipoison.eval.adversaries.base import LearningCurves, Network
from mipoison.eval.adversaries.denoiser import Denoiser
from mipoison.eval.adversaries.families import (
    AdversarySettings,
    adaptive_lookups,
    adaptive_networks,
    readers,
    standard,
)
from mipoison.eval.adversaries.mlp import MLP
from mipoison.eval.data import Role
from mipoison.eval.metrics import row_errors

STANDARD = "MLP, raw"
# Of those with the usual floor, and of all: which errs less depends on the defense.
COMMITTEE, EVERYONE = "mean of the MLPs", "mean of all MLPs"


@dataclass(frozen=True)
class Attack:
    """What all variants of the adversary achieved on E systems.

    Attributes:
        reconstructions: variant to ``[E, M, D]``, the victims as that variant sees them.
        errors: variant to ``[E, M]``, the victims' mean squared pixel errors.
        held_out: variant to ``[E]``, the error on the rows that the adversary kept back.
        networks: the trained ones among the variants.
    """

    reconstructions: dict[str, Tensor]
    errors: dict[str, Tensor]
    held_out: dict[str, Tensor]
    networks: dict[str, Network]

    @property
    def curves(self) -> dict[str, LearningCurves]:
        """Learning curves of the trained variants."""
        return {name: network.curves for name, network in self.networks.items()}

    def strongest(self, system: int) -> str:
        """Names the variant with the smallest mean error on the victims."""
        return min(self.errors, key=lambda name: float(self.errors[name][system].mean()))

    def chosen(self, system: int) -> str:
        """Names the variant that the adversary would choose, by its held-out rows alone."""
        return min(self.held_out, key=lambda name: float(self.held_out[name][system]))


def attack(
    settings: AdversarySettings,
    queries: Tensor,
    auxiliary: Role,
    served: Tensor,
    victims: Role,
    *,
    seed: int,
    stretch: int = 1,
    image_shape: tuple[int, int] | None = None,
    tick: Callable[[], None] = lambda: None,
) -> Attack:
    """Fits every variant on the adversary's queries and lets it reconstruct the victims.

    Args:
        settings: how hard the adversaries try.
        queries: defended vectors of the auxiliary rows, ``[E, n, K]``; the last
            ``settings.held_out`` rows are kept back from training.
        auxiliary: the adversary's own rows.
        served: defended vectors of the victims, ``[E, M, K]``.
        victims: the rows to reconstruct; their inputs are used for scoring alone.
        seed: initial weights and order of the batches.
        stretch: multiplies the networks' epochs.
        image_shape: height and width, for decoders.
        tick: called after every epoch.

    Returns:
        Reconstructions and errors of every variant.

    Raises:
        ValueError: if no auxiliary rows are left to train on.
    """
    fitted = len(auxiliary) - settings.held_out
    if fitted < 1:
        raise ValueError(
            f"held_out: expected fewer than the {len(auxiliary)} auxiliary rows, "
            f"got {settings.held_out}"
        )
    seen, seen_inputs = queries[:, :fitted], auxiliary.inputs[:fitted]
    held, held_inputs = queries[:, fitted:], auxiliary.inputs[fitted:]
    networks: dict[str, Network] = {STANDARD: standard(settings, seed=seed, stretch=stretch)}
    networks |= adaptive_networks(settings, seed=seed, stretch=stretch, image_shape=image_shape)
    floors = {name: one.log_floor for name, one in networks.items() if isinstance(one, MLP)}
    committees = {COMMITTEE: [name for name in floors if floors[name] == settings.log_floor]}
    if len(committees[COMMITTEE]) < len(floors):
        committees[EVERYONE] = list(floors)
    for network in networks.values():
        network.on_epoch = tick
        network.fit(seen, seen_inputs, held_out=(held, held_inputs))
    lookups = adaptive_lookups(settings)
    for lookup in lookups.values():
        lookup.fit(seen, seen_inputs)

    def answers(vectors: Tensor) -> dict[str, Tensor]:
        own = {name: network.reconstruct(vectors) for name, network in networks.items()}
        # Networks that err differently err less together, at no further training.
        for mean, names in committees.items():
            own[mean] = torch.stack([own[name] for name in names]).mean(0)
        return own | {name: lookup.reconstruct(vectors) for name, lookup in lookups.items()}

    reconstructions = answers(served)
    return Attack(
        reconstructions=reconstructions,
        errors={name: row_errors(made, victims.inputs) for name, made in reconstructions.items()},
        held_out={
            name: row_errors(made, held_inputs).mean(-1) for name, made in answers(held).items()
        },
        networks=networks,
    )


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

    Returns:
        Reconstructions and errors, a variant for each of those networks; see `Denoiser`.
    """
    fitted = len(auxiliary) - settings.held_out
    attacked = Attack({}, {}, {}, {})
    for inverter, floor in readers(settings).items():
        denoiser = Denoiser(
            adaptive.networks[inverter].member(system),
            queries[system, :fitted],
            width=settings.width,
            epochs=settings.epochs,
            batch=settings.wide_batch,
            learning_rate=settings.learning_rate,
            log_floor=floor,
            seed=seed,
            name=f"denoiser, {inverter}",
        ).fit(queries[:, :fitted], auxiliary.inputs[:fitted])
        held = row_errors(denoiser.reconstruct(queries[:, fitted:]), auxiliary.inputs[fitted:])
        made = denoiser.reconstruct(served)
        attacked.reconstructions[denoiser.name] = made
        attacked.errors[denoiser.name] = row_errors(made, victims.inputs)
        attacked.held_out[denoiser.name] = held.mean(-1)
    return attacked


def attack_trained_clean(clean: Attack, system: int, served: Tensor, victims: Role) -> Attack:
    """Lets the networks trained on the undefended system meet defended vectors (A1).

    Args:
        clean: the attack in which the undefended system took part.
        system: its index there.
        served: defended vectors of the victims, ``[E, M, K]``.
        victims: the rows to reconstruct.

    Returns:
        Reconstructions and errors; nothing is held out, since A1 never sees defended vectors.
    """
    networks = {name: network.member(system) for name, network in clean.networks.items()}
    reconstructions = {name: network.reconstruct(served) for name, network in networks.items()}
    return Attack(
        reconstructions=reconstructions,
        errors={name: row_errors(seen, victims.inputs) for name, seen in reconstructions.items()},
        held_out={name: torch.full((len(served),), torch.nan) for name in networks},
        networks=networks,
    )
