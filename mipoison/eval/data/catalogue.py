"""Find a data set by its name and divide it among the four roles of the experiment.

Who gets which row depends on the name of the data set and the seed, on nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from mipoison.eval.data import digits, folder, hubs, mnist, npz, orl
from mipoison.eval.data.roles import Split
from mipoison.eval.data.strangers import AUXILIARY, STRANGERS, with_strangers

_NAMED: Mapping[str, tuple[Callable[[int], Split], str]] = {
    "digits": (digits.load, digits.DESCRIPTION),
    "mnist": (mnist.load, mnist.DESCRIPTION),
    "orl": (lambda seed: orl.load(seed, 32), orl.DESCRIPTION.format(side=32)),
    "orl-64": (lambda seed: orl.load(seed, 64), orl.DESCRIPTION.format(side=64)),
}
_OWN: Mapping[str, tuple[Callable[[int, Path], Split], str]] = {
    "npz": (npz.load, npz.DESCRIPTION),
    "folder": (folder.load, folder.DESCRIPTION),
    "torchvision": (hubs.torchvision, hubs.TORCHVISION),
    "huggingface": (hubs.hugging_face, hubs.HUGGING_FACE),
}
_HUBS = ("torchvision", "huggingface")


def check_dataset(dataset: str) -> None:
    """Raises unless the name is one that `split` knows; the files are not looked for.

    Raises:
        ValueError: if the data set is unknown.
    """
    kind, colon, path = dataset.partition(":")
    if dataset in _NAMED or (kind in _OWN and colon and path):
        return
    own = " or ".join(f"'{kind}:PATH'" for kind in _OWN)
    raise ValueError(f"dataset: expected one of {sorted(_NAMED)}, {own}, got {dataset!r}")


def describe(dataset: str, auxiliary: str = "same") -> str:
    """Says what a data set consists of, how many rows each role gets, and whether a part of that changes hands.

    Example:
        >>> describe("npz:mine.npz")[:38]
        'grey images of the arrays x and y of m'
    """
    check_dataset(dataset)
    check_auxiliary(auxiliary)
    kind, _, path = dataset.partition(":")
    # Of a file its name alone: where it lies is nobody's business. A data set of a hub has its owner before it.
    shown = path if kind in _HUBS else Path(path).name
    said = _NAMED[dataset][1] if dataset in _NAMED else _OWN[kind][1].format(path=shown)
    return said if auxiliary == "same" else f"{said}; {STRANGERS}"


def check_auxiliary(auxiliary: str) -> None:
    """Raises unless it is one of `strangers.AUXILIARY`.

    Raises:
        ValueError: if it is not.
    """
    if auxiliary not in AUXILIARY:
        raise ValueError(f"auxiliary: expected one of {', '.join(AUXILIARY)}, got {auxiliary!r}")


def split(dataset: str = "digits", *, seed: int, auxiliary: str = "same") -> Split:
    """Loads a data set and divides it among the four roles.

    Args:
        dataset: "digits", "mnist", "orl" or "orl-64", or a user's own: "npz:PATH" with arrays
            x ``[N, H, W]`` and y ``[N]``, or "folder:PATH" with one folder of pictures a class, or
            "torchvision:NAME" and "huggingface:NAME", see `hubs`.
        seed: which division; the same seed gives the same division everywhere.
        auxiliary: what the adversary's queries show: the "same" classes as the target's, or "other" ones, see
            `strangers.with_strangers`.

    Returns:
        The four disjoint roles, in the sizes that `describe` states; "other" changes them.

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
    if dataset in _NAMED:
        parts = _NAMED[dataset][0](seed)
    else:
        kind, _, path = dataset.partition(":")
        parts = _OWN[kind][0](seed, Path(path))
    return with_strangers(parts, seed=seed) if auxiliary == "other" else parts
