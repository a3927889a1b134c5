"""Assemble the adversaries, and let each attack E defended systems side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain

import torch
from torch import Tensor

from mipoison.eval.adversaries.base import REFIT, STANDARD, Attack, Network
from mipoison.eval.adversaries.decoder import Decoder
from mipoison.eval.adversaries.lookups import LabelOnly, NearestNeighbours, reconstruct_together
from mipoison.eval.adversaries.mlp import MLP, PIXELS, Components
from mipoison.eval.adversaries.settings import WIDE, AdversarySettings
from mipoison.eval.data.splits import Role
from mipoison.eval.metrics import row_errors


def standard(
    settings: AdversarySettings,
    *,
    seed: int,
    stretch: int = 1,
    span: tuple[float, float] = PIXELS,
    components: Components | None = None,
) -> MLP:
    """Returns the standard adversary's network: raw features.

    Args:
        settings: how hard the adversaries try.
        seed: initial weights and order of the batches.
        stretch: multiplies its epochs and its patience.
        span: see `MLP`.
        components: see `MLP`.
    """
    return MLP(
        name="MLP, raw",
        kind="raw",
        width=settings.width,
        epochs=settings.epochs * stretch,
        patience=settings.patience * stretch,
        batch=settings.batch,
        learning_rate=settings.learning_rate,
        log_floor=settings.log_floor,
        span=span,
        seed=seed,
        components=components,
    )


def adaptive_networks(
    settings: AdversarySettings,
    *,
    seed: int,
    stretch: int = 1,
    image_shape: tuple[int, int] | None = None,
    span: tuple[float, float] = PIXELS,
    components: Components | None = None,
) -> dict[str, Network]:
    """Returns the adaptive adversary's networks by name: wider and longer on raw and raw+log features, decoders.

    Args:
        settings: how hard the adversaries try.
        seed: initial weights and order of the batches.
        stretch: multiplies their epochs and their patience.
        image_shape: height and width, for decoders and "mse+ssim".
        span: see `MLP`.
        components: see `MLP`; by default one for all of them.

    Raises:
        ValueError: if there are decoders but no image shape.
    """
    if settings.decoders and image_shape is None:
        raise ValueError("image_shape: expected height and width of the images, for the decoders")
    usual, shared = settings.log_floor, components or Components()
    wide = [("wide MLP, raw", "raw", "mse", usual)]
    wide += [(name, "raw+log", "mse", floor) for name, floor in settings.readers.items()]
    wide += [(f"{WIDE}, {loss}", "raw+log", loss, usual) for loss in settings.losses]
    networks: list[Network] = [
        MLP(
            name=name,
            kind=kind,
            width=settings.wide_width,
            epochs=settings.wide_epochs * stretch,
            patience=settings.patience * stretch,
            batch=settings.wide_batch,
            learning_rate=settings.learning_rate,
            log_floor=floor,
            loss=loss,
            image_shape=image_shape,
            span=span,
            seed=seed + 1,
            components=shared,
        )
        for name, kind, loss, floor in wide
    ]
    networks += [
        Decoder(
            image_shape=image_shape,
            kind=kind,
            channels=settings.decoder_channels,
            epochs=settings.decoder_epochs * stretch,
            patience=settings.patience * stretch,
            log_floor=settings.log_floor,
            seed=seed + 2,
        )
        for kind in settings.decoders
        if image_shape is not None
    ]
    return {network.name: network for network in networks}


def adaptive_lookups(settings: AdversarySettings) -> list[list[NearestNeighbours]]:
    """Returns the adaptive adversary's nearest neighbours, those of the same features together."""
    return [
        [
            NearestNeighbours(neighbours=k, kind=kind, log_floor=settings.log_floor)
            for k in settings.neighbours
        ]
        for kind in ("raw", "log")
    ]


# Of those with the usual floor, and of all: which errs less depends on the defense.
COMMITTEE, EVERYONE = "mean of the MLPs", "mean of all MLPs"


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
    span: tuple[float, float] = PIXELS,
    tick: Callable[[], None] = lambda: None,
) -> Attack:
    """Fits every variant on the adversary's queries and lets it reconstruct the victims.

    Variants are compared on the rows kept back. After that the one chosen for a system is trained again on all rows,
    and look-ups, which take no training, look up in all of them.

    Args:
        settings: how hard the adversaries try.
        queries: defended vectors of the auxiliary rows, ``[E, n, K]``; the last
            ``settings.held_out`` rows are kept back from the first training.
        auxiliary: the adversary's own rows.
        served: defended vectors of the victims, ``[E, M, K]``.
        victims: the rows to reconstruct; their inputs are used for scoring alone.
        seed: initial weights and order of the batches.
        stretch: multiplies the networks' epochs and their patience.
        image_shape: height and width, for decoders.
        span: lowest and highest input, for the MLPs.
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
    components = Components()
    networks: dict[str, Network] = {
        STANDARD: standard(settings, seed=seed, stretch=stretch, span=span, components=components)
    }
    networks |= adaptive_networks(
        settings,
        seed=seed,
        stretch=stretch,
        image_shape=image_shape,
        span=span,
        components=components,
    )
    floors = {name: one.log_floor for name, one in networks.items() if isinstance(one, MLP)}
    committees = {COMMITTEE: [name for name in floors if floors[name] == settings.log_floor]}
    if len(committees[COMMITTEE]) < len(floors):
        committees[EVERYONE] = list(floors)
    for network in networks.values():
        network.on_epoch = tick
        network.fit(seen, seen_inputs, held_out=(held, held_inputs))
    lookups = adaptive_lookups(settings)
    label_only = LabelOnly()
    everybody: list[NearestNeighbours | LabelOnly] = [*chain.from_iterable(lookups), label_only]
    for lookup in everybody:
        lookup.fit(seen, seen_inputs)

    def answers(vectors: Tensor) -> dict[str, Tensor]:
        own = {name: network.reconstruct(vectors) for name, network in networks.items()}
        # Networks that err differently err less together, at no further training.
        for mean, names in committees.items():
            own[mean] = torch.stack([own[name] for name in names]).mean(0)
        for alike in lookups:
            own |= reconstruct_together(alike, vectors)
        return own | {label_only.name: label_only.reconstruct(vectors)}

    kept_back = {
        name: row_errors(made, held_inputs).mean(-1) for name, made in answers(held).items()
    }
    for lookup in everybody:
        lookup.fit(queries, auxiliary.inputs)
    attacked = Attack(answers(served), {}, kept_back, networks)
    chosen = [attacked.best_held_out(system) for system in range(len(queries))]
    attacked.reconstructions[REFIT] = _trained_again(
        attacked, chosen, committees, queries, auxiliary.inputs, served
    )
    for name, made in attacked.reconstructions.items():
        attacked.errors[name] = row_errors(made, victims.inputs)
    return replace(attacked, refit=tuple(chosen))


def _trained_again(
    attacked: Attack,
    chosen: Sequence[str],
    committees: Mapping[str, Sequence[str]],
    queries: Tensor,
    inputs: Tensor,
    served: Tensor,
) -> Tensor:
    """The victims ``[E, M, D]`` as the chosen variant of each system sees them once trained on all rows."""
    made: list[list[Tensor]] = [[] for _ in chosen]
    for name, network in attacked.networks.items():
        systems = [
            system for system, one in enumerate(chosen) if name in committees.get(one, (one,))
        ]
        if systems:
            trained = network.again(queries[systems], inputs, systems)
            for system, seen in zip(systems, trained.reconstruct(served[systems]), strict=True):
                made[system].append(seen)
    return torch.stack(
        [
            torch.stack(own).mean(0) if own else attacked.reconstructions[one][system]
            for system, (one, own) in enumerate(zip(chosen, made, strict=True))
        ]
    )


def attack_trained_clean(clean: Attack, system: int, served: Tensor, victims: Role) -> Attack:
    """Lets the networks trained on the undefended system meet defended vectors: the clean adversary.

    Args:
        clean: the attack in which the undefended system took part.
        system: its index there.
        served: defended vectors of the victims, ``[E, M, K]``.
        victims: the rows to reconstruct.

    Returns:
        Reconstructions and errors; nothing is held out, since the clean adversary never sees defended vectors.
    """
    networks = {name: network.member(system) for name, network in clean.networks.items()}
    reconstructions = {name: network.reconstruct(served) for name, network in networks.items()}
    return Attack(
        reconstructions=reconstructions,
        errors={name: row_errors(seen, victims.inputs) for name, seen in reconstructions.items()},
        held_out={name: torch.full((len(served),), torch.nan) for name in networks},
        networks=networks,
    )
