"""Read what a run wrote, and name the file that is not what a run writes."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

_RESULTS: Final = ("configuration", "summary", "environment")
_AGAIN: Final = "remove it and run `mipoison evaluate` again"
Arrays = dict[str, npt.NDArray[np.float32]]


def read_json(path: Path) -> dict[str, Any]:
    """A file's JSON object.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it holds something else.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"expected {path.name} in {path.parent}, found none; name what `mipoison evaluate` wrote"
        )
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected JSON, got a damaged file ({error}); {_AGAIN}") from None
    if not isinstance(plain, dict):
        raise ValueError(f"{path}: expected a JSON object, got {type(plain).__name__}; {_AGAIN}")
    return plain


def read_results(path: Path) -> dict[str, Any]:
    """A run's results.json.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is none.
    """
    plain = read_json(path)
    if lacking := [name for name in _RESULTS if not isinstance(plain.get(name), Mapping)]:
        raise ValueError(
            f"{path}: expected the results of a run, got JSON without {', '.join(lacking)}; {_AGAIN}"
        )
    return plain


def read_arrays(path: Path) -> Arrays:
    """The arrays of an ``.npz``.

    Raises:
        ValueError: if it is none.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (ValueError, AttributeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f"{path}: expected arrays, got a damaged file ({error}); {_AGAIN}"
        ) from None


@contextmanager
def expecting_results(path: Path) -> Iterator[None]:
    """Names the file where the block finds that its JSON has not the parts of a run's."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(
            f"{path}: expected the results of a run of this version, got {type(error).__name__}: {error}; {_AGAIN}"
        ) from error
