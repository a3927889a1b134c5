"""Load Labeled Faces in the Wild, and divide it so that no person is in two roles but private and victims."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from mipoison.eval.data.arrays import read_npz, stored_logits
from mipoison.eval.data.splits import UNKNOWN, Images, Split, assemble
from mipoison.eval.scalars import derive_seed

FACES: Final = "lfw-faces.npz"
LOGITS: Final = "lfw-imagenet-logits.npz"
# Alterations multiply the private photographs, for they are few a person; see `bundled.augment`.
COPIES: Final = 4
# A person with so many photographs is private: the classifier knows them, and they are the victims.
LEAST_PHOTOGRAPHS: Final = 20
# The most rows of a role, and the most of its share: of the private people's rows, or of the others'.
_VICTIMS: Final = (1000, 1 / 3)
_DEFENDER: Final = (2000, 0.2)
_AUXILIARY: Final = (5000, 0.5)
_HOW: Final = "numpy.savez(FILE, x=photographs, person=numbers)"


def load_lfw(seed: int, folder: Path, side: int) -> Split:
    """Reads the photographs and the stored logits, if they are there, and divides them by person.

    The private people are those with at least 20 photographs; the others are dealt to defender and auxiliary, so that
    nobody is in both. Labels are the private people; nobody else has one.

    Args:
        seed: of the division.
        folder: with lfw-faces.npz, and lfw-imagenet-logits.npz for the target "stored".
        side: height and width to average the photographs to, over areas.

    Raises:
        FileNotFoundError: if there are no photographs.
        ValueError: if a file cannot be read or is not as described, or there are too few people.
    """
    name = f"dataset 'lfw:{folder}'"
    if not (folder / FACES).is_file():
        raise FileNotFoundError(
            f"{name}: expected a folder with {FACES}, found none; Labeled Faces in the Wild is public "
            "(vis-www.cs.umass.edu/lfw, deep-funneled), docs/guides/faces.md says how to make the file of it, and "
            "--dataset lfw:FOLDER names its folder"
        )
    arrays = read_npz(folder / FACES, f"{name}: {FACES}", ("x", "person"), _HOW)
    x, person = arrays["x"], arrays["person"]
    if x.dtype != np.uint8 or x.ndim != 3 or x.shape[1] != x.shape[2] or x.shape[1] < side:
        raise ValueError(
            f"{name}: {FACES}: expected x of uint8 [N, S, S] with S at least {side}, got {x.dtype} {list(x.shape)}"
        )
    if person.dtype.kind not in "iu" or person.shape != x.shape[:1]:
        raise ValueError(
            f"{name}: {FACES}: expected person of whole numbers [{len(x)}], got {person.dtype} {list(person.shape)}"
        )
    logits = None
    if (folder / LOGITS).exists():
        # Pickles are never read: as in every other file, arrays of numbers alone.
        stored = read_npz(folder / LOGITS, f"{name}: {LOGITS}", ("logits",), _HOW)
        logits = stored_logits(stored, f"{name}: {LOGITS}", count=len(x))
    _, people, counts = np.unique(person, return_inverse=True, return_counts=True)
    private = counts >= LEAST_PHOTOGRAPHS
    if private.sum() < 2 or (~private).sum() < 2:
        raise ValueError(
            f"{name}: expected at least 2 people with {LEAST_PHOTOGRAPHS} photographs or more, and 2 with fewer, got "
            f"{int(private.sum())} and {int((~private).sum())}"
        )
    numbers = np.where(private, np.cumsum(private) - 1, UNKNOWN)
    labels = torch.from_numpy(numbers[people].astype(np.int64))
    images = Images(_averaged(x, side), labels, (side, side))
    rows = _divided(people, private, np.random.default_rng(derive_seed(seed, "split", "lfw")))
    return assemble(images, rows, logits=logits, auxiliary_known=False)


def _averaged(x: npt.NDArray[np.uint8], side: int) -> Tensor:
    """Pixels ``[N, side * side]`` in [0, 1], averaged over areas."""
    photographs = torch.from_numpy(x).unsqueeze(1)
    parts = [
        interpolate(some.float() / 255, size=(side, side), mode="area")
        for some in photographs.split(1000)
    ]
    return torch.cat(parts).flatten(1)


def _divided(
    people: npt.NDArray[Any], private: npt.NDArray[np.bool_], generator: np.random.Generator
) -> dict[str, Tensor]:
    """Role to positions; ``people`` says who each row shows, ``private`` who is private."""
    known = private[people]
    rows = generator.permutation(np.flatnonzero(known))
    # Every private person gives the same share of their photographs, as nearly as whole photographs allow.
    order = np.argsort(_place_among_own(people[rows], generator), kind="stable")
    victims, rest = np.split(rows[order], [_size(_VICTIMS, len(rows))])
    others = generator.permutation(np.flatnonzero(~private))
    # Person by person, each one's rows together.
    place = np.empty(len(private), np.int64)
    place[others] = np.arange(len(others))
    dealt = np.flatnonzero(~known)
    dealt = dealt[np.argsort(place[people[dealt]], kind="stable")]
    total = len(dealt)
    defender, dealt = np.split(dealt, [_size(_DEFENDER, total)])
    # Whoever the cut divides stays with the defender alone.
    auxiliary = dealt[people[dealt] != people[defender[-1]]][: _size(_AUXILIARY, total)]
    held = {"private": rest, "defender": defender, "auxiliary": auxiliary, "victims": victims}
    shuffled = {"private", "defender"}
    # Auxiliary rows stay person by person: the last ones are kept back to choose by, and show people apart.
    return {
        role: torch.from_numpy(generator.permutation(own) if role in shuffled else own)
        for role, own in held.items()
    }


def _size(bounds: tuple[int, float], total: int) -> int:
    most, share = bounds
    return max(1, min(most, int(share * total)))


def _place_among_own(
    people: npt.NDArray[Any], generator: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Each row's place among its person's rows as a share in [0, 1), shifted by less than a row, at random."""
    counts = np.bincount(people)
    shift = generator.random(len(counts))
    order = np.argsort(people, kind="stable")
    first = np.repeat(np.cumsum(counts) - counts, counts)
    places = np.empty(len(people))
    places[order] = np.arange(len(people)) - first
    shares: npt.NDArray[np.float64] = (places + shift[people]) / counts[people]
    return shares
