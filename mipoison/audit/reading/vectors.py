"""Read vectors from a file of their own: npz, npy, CSV or Parquet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mipoison.audit.reading.confidences import require_count
from mipoison.audit.reading.found import Array, listed
from mipoison.audit.reading.options import FILES, VECTORS, Options
from mipoison.audit.reading.stored import Stored, arrays_of

ARRAYS = (".npz", ".npy")
TABLES = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet", ".pq")


@dataclass(frozen=True)
class Vectors:
    """Vectors as they came.

    Attributes:
        called: the file, and what in it, for messages.
        shape: of all of them.
        take: gives the rows at ascending positions, or all.
        names: of the files that they belong to; None: they come in the order of the inputs.
        classes: their names, or empty.
        groups: of each vector, where the file says so.
        logits: whether what they are called says that they are.
    """

    called: str
    shape: tuple[int, ...]
    take: Callable[[npt.NDArray[np.int64] | None], Array]
    names: list[str] | None = None
    classes: tuple[str, ...] = ()
    groups: Array | None = None
    logits: bool = False

    @property
    def width(self) -> int:
        """How many numbers a vector has."""
        return int(np.prod(self.shape[1:], dtype=np.int64))

    def of(self, count: int, what: str, keep: npt.NDArray[np.int64] | None) -> Array:
        """The vectors of the inputs at some positions, where there are so many inputs.

        Raises:
            ValueError: if there are not as many vectors, or they are damaged.
        """
        require_count(self.called, self.shape, count, what)
        return self.take(keep)


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
        return arrays[""].plain()
    wanted = [name] if name is not None else [one for one in usual if one in arrays][:1]
    if not wanted or wanted[0] not in arrays:
        expected = name or " or ".join(usual)
        raise ValueError(
            f"{option}: expected an array {expected} in {file.name}, got {listed(sorted(arrays))}; name the one that "
            "it "
            f"is with --{option.replace('_', '-')}"
        )
    return arrays[wanted[0]].plain()


def of_arrays(file: Path, arrays: dict[str, Stored], options: Options) -> Vectors:
    """Vectors of an npz or npy."""
    stored = chosen(arrays, "vectors_name", options.vectors_name, VECTORS, file)
    names = next((arrays[name] for name in ("files", *FILES) if _is_text(arrays, name)), None)
    return Vectors(
        stored.called,
        stored.shape,
        stored.take,
        names=None if names is None else [str(one) for one in names.take()],
        classes=names_of(arrays),
        groups=_own_groups(arrays, options),
        logits=stored.member == "logits",
    )


def names_of(arrays: dict[str, Stored]) -> tuple[str, ...]:
    """What an npz calls its classes; empty if it does not say."""
    stored = arrays.get("classes")
    return () if stored is None else tuple(str(one) for one in stored.take().reshape(-1))


def _is_text(arrays: dict[str, Stored], name: str) -> bool:
    return name in arrays and arrays[name].dtype.kind in "UST" and len(arrays[name].shape) == 1


def _own_groups(arrays: dict[str, Stored], options: Options) -> Array | None:
    stored = arrays.get(options.group or "groups")
    return None if stored is None else stored.take()


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
            from mipoison.audit.reading.columns import own_vectors

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
