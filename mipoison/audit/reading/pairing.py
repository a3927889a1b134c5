"""Pair inputs with the vectors of another file: by a column that names each once in both, else in their order."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from mipoison.audit.reading.confidences import require_count
from mipoison.audit.reading.found import Array, listed
from mipoison.audit.reading.vectors import Vectors


def paired(
    vectors: Vectors,
    columns: Mapping[str, Callable[[], Array]],
    count: int,
    keep: npt.NDArray[np.int64] | None,
    what: str,
    notes: list[str],
) -> npt.NDArray[np.int64]:
    """The position of each input's vector, −1 where there is none.

    A column of whole numbers or texts that both files have and in which nothing is repeated is a key. Without one, the
    vectors come in the order of the inputs, and no such column may say otherwise.

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
    shared = {
        name: _alike(columns[name](), vectors.beside[name]())
        for name in columns
        if name in vectors.beside
    }
    for name, (own, theirs) in shared.items():
        if _once(own) and _once(theirs):
            return _by_key(vectors, name, own, theirs, what, notes)
    require_count(vectors.called, vectors.shape, count, what)
    other = [
        name for name, (own, theirs) in shared.items() if not np.array_equal(own, theirs[rows])
    ]
    if other:
        raise ValueError(
            f"{vectors.called}: expected the vectors in the order of the {what}, got other values of {listed(other)}; "
            "add a column that numbers both, in which nothing is repeated, or rename those of another meaning"
        )
    sure = f", as the equal values of {listed(shared)} confirm" if shared else ""
    notes.append(f"the vectors of {vectors.file} were given to the {what} in their order{sure}")
    return rows


def _alike(own: Array, theirs: Array) -> tuple[Array, Array]:
    """As texts, unless both are whole numbers."""
    both = all(one.dtype.kind in "iu" for one in (own, theirs))
    return (own, theirs) if both else (own.astype(str), theirs.astype(str))


def _once(values: Array) -> bool:
    return len(np.unique(values)) == len(values)


def _by_key(
    vectors: Vectors, name: str, own: Array, theirs: Array, what: str, notes: list[str]
) -> npt.NDArray[np.int64]:
    order = np.argsort(theirs)
    near = np.minimum(np.searchsorted(theirs, own, sorter=order), max(0, len(theirs) - 1))
    places = order[near] if len(theirs) else np.full(len(own), -1)
    places = np.where(theirs[places] == own, places, -1) if len(theirs) else places
    fit = int((places >= 0).sum())
    if not fit:
        raise ValueError(
            f"{vectors.called}: expected values of {name} that the {what} have, such as {listed(map(str, own[:2]))}, "
            f"got {listed(map(str, theirs[:2]))}; rename it in one file if it means something else there"
        )
    notes.append(
        f"the vectors of {vectors.file} were given to the {what} by their {name}: {fit} of {len(own)} have one"
    )
    return places.astype(np.int64)
