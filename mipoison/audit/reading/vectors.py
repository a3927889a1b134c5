"""Read vectors from a file of their own: npz, npy, CSV or Parquet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from mipoison.audit.reading.found import Array, listed, named, row_names
from mipoison.audit.reading.keys import as_texts
from mipoison.audit.reading.options import FILES, VECTORS, Options
from mipoison.audit.reading.stored import Stored, arrays_of

ARRAYS = (".npz", ".npy")
PARQUET = (".parquet", ".pq")
TABLES = (".csv", ".tsv", ".csv.gz", ".tsv.gz", *PARQUET)
# The index of a data frame, whatever a file calls it.
COUNTED: Final = "row index"


@dataclass(frozen=True)
class Vectors:
    """Vectors as they came.

    Attributes:
        file: its name.
        called: the file, and what in it, for messages.
        shape: of all of them.
        take: gives the rows at ascending positions, or all.
        names: of the files that they belong to; None: they come in the order of the inputs.
        classes: their names, or empty.
        groups: of each vector, where the file says so.
        logits: whether what they are called says that they are.
        beside: values of each vector, by name, which may say which input it belongs to.
    """

    file: str
    called: str
    shape: tuple[int, ...]
    take: Callable[[npt.NDArray[np.int64] | None], Array]
    names: list[str] | None = None
    classes: tuple[str, ...] = ()
    groups: Array | None = None
    logits: bool = False
    beside: Mapping[str, Callable[[], Array]] = field(default_factory=dict)

    @property
    def width(self) -> int:
        """How many numbers a vector has."""
        return int(np.prod(self.shape[1:], dtype=np.int64))

    def at(self, places: npt.NDArray[np.int64]) -> Array:
        """The vectors at some positions, in any order.

        Raises:
            ValueError: if they are damaged.
        """
        order = np.argsort(places)
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        found: Array = self.take(places[order])[back]
        return found


def ends(file: Path, suffixes: Sequence[str]) -> bool:
    """Whether a file's name has one of the endings, in any case."""
    return file.name.lower().endswith(tuple(suffixes))


def chosen(
    arrays: dict[str, Stored], option: str, name: str | None, usual: Sequence[str], file: Path
) -> Stored:
    """The array that an option or its name chooses.

    Raises:
        ValueError: if there is none; the arrays that there are are named.
    """
    if "" in arrays:
        if name is not None:
            raise ValueError(
                f"{option}: expected none for {file.name}, which has one array, got {name}; leave it out"
            )
        return arrays[""].plain()
    wanted = [name] if name is not None else [one for one in usual if one in arrays][:1]
    if not wanted or wanted[0] not in arrays:
        expected = name or " or ".join(usual)
        raise ValueError(
            f"{option}: expected an array {expected} in {file.name}, got {listed(sorted(arrays))}; name the one that "
            f"it is with --{option.replace('_', '-')}"
        )
    return arrays[wanted[0]].plain()


def of_arrays(file: Path, arrays: dict[str, Stored], options: Options) -> Vectors:
    """Vectors of an npz or npy.

    Raises:
        ValueError: if there are none, an option has no effect here, or what is beside them is of another number.
    """
    if options.vectors_prefix is not None:
        raise ValueError(
            f"vectors_prefix: expected none for {file.name}, whose vectors are an array, got {options.vectors_prefix}; "
            "name it with --vectors-name"
        )
    stored = chosen(arrays, "vectors_name", options.vectors_name, VECTORS, file)
    names = next((arrays[name] for name in ("files", *FILES) if _is_text(arrays, name)), None)
    return Vectors(
        file.name,
        stored.called,
        stored.shape,
        stored.take,
        names=None if names is None else _texts(names),
        classes=names_of(arrays),
        groups=group_array(arrays, options, stored.shape[:1], "vectors"),
        logits=stored.member == "logits",
        beside=keys_in(arrays, stored.shape[:1]),
    )


def keys_in(arrays: dict[str, Stored], shape: tuple[int, ...]) -> dict[str, Callable[[], Array]]:
    """Arrays [N] of numbers, texts, bytes or times, by name."""
    return {
        name: one.take
        for name, one in arrays.items()
        if name and one.shape == shape and one.dtype.kind in "iufbUSTM"
    }


def group_array(
    arrays: dict[str, Stored], options: Options, shape: tuple[int, ...], of: str
) -> Array | None:
    """The array [N] of groups that the option names, or of the usual name; None where there is none.

    Raises:
        ValueError: if it is of another shape, or some are missing.
    """
    stored = arrays.get(options.group or "groups")
    if stored is None or not shape:
        return None
    require_shape(stored, shape, of)
    found = stored.take()
    if found.dtype.kind in "fc":
        require_groups(stored.called, np.isnan(found))
    return found


def require_shape(stored: Stored, shape: tuple[int, ...], of: str) -> None:
    """Raises ValueError for an array beside others that has not one value for each of them."""
    if stored.shape != shape:
        raise ValueError(
            f"{stored.called}: expected one value for each of {shape[0]} {of}, got {list(stored.shape)}; "
            "leave the array out, or give each one"
        )


def require_groups(called: str, missing: npt.NDArray[np.bool_]) -> None:
    """Raises ValueError where groups are missing: rows without one would all become one person."""
    if missing.any():
        raise ValueError(
            f"{called}: expected a group of each row, got none in {named(missing, row_names(len(missing)))}; leave "
            "these rows out, or give each a group of its own"
        )


def names_of(arrays: dict[str, Stored]) -> tuple[str, ...]:
    """What an npz calls its classes; empty if it does not say."""
    stored = arrays.get("classes")
    return () if stored is None else tuple(_texts(stored))


def _texts(stored: Stored) -> list[str]:
    values = stored.take().reshape(-1)
    found = as_texts(values)
    return [str(one) for one in (values if found is None else found)]


def _is_text(arrays: dict[str, Stored], name: str) -> bool:
    """Whether an array has one text a row, or an object: reading objects says what to do."""
    return name in arrays and arrays[name].dtype.kind in "USTO" and len(arrays[name].shape) == 1


def vectors_of(options: Options) -> Vectors:
    """The vectors of the option's file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is of another kind or damaged, or has no vectors.
    """
    file = options.vectors
    assert file is not None
    require_file("vectors", file)
    if ends(file, ARRAYS):
        return of_arrays(file, arrays_of(file), options)
    if ends(file, TABLES):
        with needing_arrow(file):
            from mipoison.audit.reading.tables.columns import own_vectors

        return own_vectors(file, options)
    raise ValueError(
        f"vectors: expected a file {', '.join(ARRAYS + TABLES)}, got {file.name}; save them as one of these"
    )


@contextmanager
def needing_arrow(file: Path) -> Iterator[None]:
    """Tells in one line what a table needs, where the block imports what reads it."""
    try:
        yield
    except ImportError as error:
        if error.name != "pyarrow":
            raise
        raise ValueError(
            f"{file.name}: CSV and Parquet files need pyarrow, found none; pip install 'mipoison[arrow]'"
        ) from error


def require_file(option: str, file: Path) -> None:
    """Raises FileNotFoundError where there is no file."""
    if not file.is_file():
        found = "a folder" if file.is_dir() else "none"
        raise FileNotFoundError(f"{option}: expected a file {file}, found {found}")
