"""Load a data set by its name and divide it among the four roles of the experiment.

Who gets which row depends on the name of the data set and the seed, on nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from mipoison.eval.data.bundled import augment, load_digits, load_mnist, load_orl
from mipoison.eval.data.catalogue import check_auxiliary, check_dataset
from mipoison.eval.data.files import load_folder, load_npz
from mipoison.eval.data.hubs import load_hugging_face, load_torchvision
from mipoison.eval.data.idx import load_fashion, load_idx
from mipoison.eval.data.lfw import COPIES, load_lfw
from mipoison.eval.data.splits import Split, with_disjoint_classes
from mipoison.eval.scalars import derive_seed

_BUNDLED: Final[Mapping[str, Callable[[int], Split]]] = {
    "digits": load_digits,
    "mnist": load_mnist,
    "fashion": load_fashion,
    "orl": lambda seed: load_orl(seed, 32),
    "orl-64": lambda seed: load_orl(seed, 64),
}
_OWN: Final[Mapping[str, Callable[[int, Path], Split]]] = {
    "npz": load_npz,
    "folder": load_folder,
    "idx": load_idx,
    "torchvision": load_torchvision,
    "huggingface": load_hugging_face,
    "lfw": lambda seed, path: _faces(seed, path, 32),
    "lfw-48": lambda seed, path: _faces(seed, path, 48),
}


def _faces(seed: int, path: Path, side: int) -> Split:
    """Labeled Faces in the Wild, with altered copies of the private photographs, which have no stored logits."""
    parts = load_lfw(seed, path, side)
    alterations = derive_seed(seed, "augment", "lfw", "private")
    more = augment(parts.private, copies=COPIES, image_shape=parts.image_shape, seed=alterations)
    return replace(parts, private=more)


def split(dataset: str = "digits", *, seed: int, auxiliary: str = "same") -> Split:
    """Loads a data set and divides it among the four roles.

    Args:
        dataset: "digits", "mnist", "fashion", "orl" or "orl-64", or a user's own: "npz:PATH" with arrays
            x ``[N, H, W]`` and y ``[N]``, or "folder:PATH" with one folder of pictures a class, "idx:PATH" with
            files like MNIST's, or "torchvision:NAME" and "huggingface:NAME", see `hubs`, or "lfw:FOLDER" and
            "lfw-48:FOLDER", see `lfw`.
        seed: which division; the same seed gives the same division everywhere.
        auxiliary: what the adversary's queries show: the "same" classes as the target's, or "other" ones, see
            `splits.with_disjoint_classes`.

    Returns:
        The four disjoint roles, in the sizes that `catalogue.describe` states; "other" changes them.

    Raises:
        ValueError: if the data set is unknown or not as described in its file, or ``auxiliary`` unknown, or there are
            too few classes for "other".
        FileNotFoundError: if its files are missing; says what to install.

    Example:
        >>> parts = split("digits", seed=100)
        >>> [len(role) for role in (parts.private, parts.defender, parts.auxiliary, parts.victims)]
        [400, 400, 700, 297]
        >>> float(parts.victims.inputs.min()), float(parts.victims.inputs.max())
        (0.0, 1.0)
    """
    check_dataset(dataset)
    check_auxiliary(auxiliary)
    if dataset in _BUNDLED:
        parts = _BUNDLED[dataset](seed)
    else:
        kind, _, path = dataset.partition(":")
        parts = _OWN[kind](seed, Path(path))
    if auxiliary == "same":
        return parts
    return with_disjoint_classes(parts, seed=derive_seed(seed, "strangers"))
