"""Check what an experiment is made of before any cell starts: one mistake is told once, and not in every cell."""

from __future__ import annotations

import torch

from mipoison.eval.adversaries.attack import adaptive_networks
from mipoison.eval.configuration import Configuration
from mipoison.eval.data.loading import split
from mipoison.eval.data.splits import Split
from mipoison.eval.outside import try_out
from mipoison.eval.scalars import derive_seed
from mipoison.eval.scores.lpips import given_lpips
from mipoison.eval.targets.networks import ARCHITECTURES
from mipoison.eval.targets.own import embedding, is_outside, outside_target
from mipoison.eval.targets.retraining import PLAIN, retraining
from mipoison.eval.targets.stored import STORED, require_stored, vector_length


def check(configuration: Configuration) -> None:
    """Loads the data, builds or loads the target and asks it, and tries the outside defenses out.

    The rows of another seed are as many of each class, unless a seed also says which classes the target knows: then
    those of all seeds are looked at. An outside defense that is fitted is fitted in the cells alone, since that may
    take long.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if something does not fit; names it, and says what to do.
    """
    first, *others = configuration.seeds
    parts = _parts(configuration, first)
    if configuration.auxiliary == "other":
        for seed in others:
            _parts(configuration, seed)
    _check_target(configuration, parts, first)
    classes = vector_length(configuration.target, parts)
    settings = configuration.adversary
    adaptive_networks(settings, seed=0, image_shape=parts.image_shape)
    for kind in settings.decoders:
        if kind.startswith("top-") and int(kind.removeprefix("top-")) > classes:
            raise ValueError(
                f"decoders: expected 'top-M' with M at most the {classes} classes, got {kind!r}"
            )
    if configuration.evaluator is not None:
        embedding(configuration.evaluator, parts)
    given_lpips(configuration.lpips)
    for method in configuration.methods:
        if method.builder == "outside":
            try:
                try_out(str(dict(method.options)["callable"]), classes)
            except ValueError as error:
                raise ValueError(f"outside: {error}") from error


def _parts(configuration: Configuration, seed: int) -> Split:
    parts = split(configuration.dataset, seed=seed, auxiliary=configuration.auxiliary)
    configuration.adversary.check_rows(len(parts.auxiliary))
    return parts


def _check_target(configuration: Configuration, parts: Split, seed: int) -> None:
    """An outside target answers some images, a stored one all; one of ours is built and not trained."""
    if configuration.target == STORED:
        require_stored(parts)
        return
    if not parts.classes:
        raise ValueError(
            f"target: expected {STORED!r} for data without classes, got {configuration.target!r}; add y to the .npz "
            "to train or measure another"
        )
    if is_outside(configuration.target):
        outside_target(configuration.target, parts, seed=derive_seed(seed, "target"))
        return
    name, _, way = configuration.target.partition("+")
    with torch.random.fork_rng(devices=[]):
        try:
            model = ARCHITECTURES[name](parts.image_shape, parts.classes)
        except ValueError as error:
            raise ValueError(f"target: {name}: {error}") from error
        (retraining(way) if way else PLAIN).rebuild(model)
