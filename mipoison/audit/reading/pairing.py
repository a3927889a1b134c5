"""Pair inputs with the vectors of another file: by a column that names each once in both, else in their order."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from mipoison.audit.reading.confidences import require_count
from mipoison.audit.reading.found import Array, listed
from mipoison.audit.reading.keys import as_texts
from mipoison.audit.reading.vectors import COUNTED, Vectors


def paired(
    vectors: Vectors,
    columns: Mapping[str, Callable[[], Array]],
    count: int,
    keep: npt.NDArray[np.int64] | None,
    what: str,
    notes: list[str],
) -> npt.NDArray[np.int64]:
    """The position of each input's vector, −1 where there is none.

    A column that both files have and in which no value is repeated is a key; fractions are none, and rows that lack the
    value have no vector. Names are the same in upper and lower case. Without a key, the vectors come in the order of
    the inputs, and no such column may say otherwise.

    Args:
        vectors: those of the other file.
        columns: of the inputs, by name; each gives the values of the inputs that are kept.
        count: how many inputs there are.
        keep: positions of those that are kept; None: all.
        what: the inputs are called, such as "rows".
        notes: gets a line that says how they were paired.

    Raises:
        ValueError: if there are not as many vectors as inputs and no key, or the order is doubtful.
    """
    rows = np.arange(count) if keep is None else keep
    shared = _shared(columns, vectors)
    for name, (own, theirs) in shared.items():
        if not _once(own):
            continue
        if _once(theirs):
            return _by_key(vectors, name, own, theirs, what, notes)
        values, times = np.unique(theirs[theirs != ""], return_counts=True)
        if (times > 1).any() and name != COUNTED:
            raise ValueError(
                f"{vectors.called}: expected one vector for each {name}, which names each of the {what}, got several "
                f"for {listed(values[times > 1])}; leave the others out, or rename the column"
            )
    require_count(vectors.called, vectors.shape, count, what)
    other = [name for name, (own, theirs) in shared.items() if _apart(own, theirs[rows])]
    if other:
        raise ValueError(
            f"{vectors.called}: expected the vectors in the order of the {what}, got other values of {listed(other)}; "
            "add a column that numbers both, in which nothing is repeated, or rename those of another meaning"
        )
    sure = f", as the equal values of {listed(shared)} confirm" if shared else ""
    notes.append(f"the vectors of {vectors.file} were given to the {what} in their order{sure}")
    return rows


def _shared(
    columns: Mapping[str, Callable[[], Array]], vectors: Vectors
) -> dict[str, tuple[Array, Array]]:
    """The values that both have, as texts, by the name that they have beside the inputs."""
    there = {_plain(name): take for name, take in vectors.beside.items()}
    shared = {}
    for name, take in columns.items():
        other = vectors.beside.get(name, there.get(_plain(name)))
        if other is None:
            continue
        own, theirs = as_texts(take()), as_texts(other())
        if own is None or theirs is None or (name == COUNTED and not _tells(own, theirs)):
            continue
        shared[name] = (own, theirs)
    return shared


def _plain(name: str) -> str:
    return name.strip().casefold()


def _tells(own: Array, theirs: Array) -> bool:
    """Whether the index of a data frame says what is whose: that of answers is often counted anew, from 0."""
    anew = np.array_equal(theirs, np.arange(len(theirs)).astype(str))
    return not anew and bool(np.isin(own, theirs).all())


def _once(values: Array) -> bool:
    """Whether nothing is repeated, and half of the rows or more have a value."""
    given = values[values != ""]
    return 2 * len(given) >= len(values) and len(np.unique(given)) == len(given)


def _apart(own: Array, theirs: Array) -> bool:
    """Whether values differ where neither is missing."""
    return bool(((own != theirs) & (own != "") & (theirs != "")).any())


def _by_key(
    vectors: Vectors, name: str, own: Array, theirs: Array, what: str, notes: list[str]
) -> npt.NDArray[np.int64]:
    order = np.argsort(theirs)
    near = np.minimum(np.searchsorted(theirs, own, sorter=order), max(0, len(theirs) - 1))
    places = order[near] if len(theirs) else np.full(len(own), -1)
    places = np.where((theirs[places] == own) & (own != ""), places, -1) if len(theirs) else places
    fit = int((places >= 0).sum())
    if not fit:
        raise ValueError(
            f"{vectors.called}: expected values of {name} that the {what} have, such as {listed(map(str, own[:2]))}, "
            f"got {listed(map(str, theirs[:2]))}; rename it in one file if it means something else there"
        )
    _refuse_padded(vectors, name, own[(places < 0) & (own != "")], theirs)
    notes.append(
        f"the vectors of {vectors.file} were given to the {what} by their {name}: {fit} of {len(own)} have one"
    )
    return places.astype(np.int64)


def _refuse_padded(vectors: Vectors, name: str, lost: Array, theirs: Array) -> None:
    """Raises ValueError where values without a counterpart have one but for zeros before them."""
    there = {str(value).lstrip("0"): str(value) for value in theirs}
    for value in map(str, lost):
        other = there.get(value.lstrip("0"))
        if other is not None and value.lstrip("0"):
            raise ValueError(
                f"{vectors.called}: expected values of {name} that are written alike in both files, got {value} and "
                f"{other}; write both with zeros before them, or both without"
            )
