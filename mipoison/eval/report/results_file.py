"""Name, write and read the files of a run, and say which is not what a run writes.

`mipoison.eval.run.store.gather` puts together what results.json holds.
"""

from __future__ import annotations

import json
import os
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

CONFIG: Final = "config.json"
NAMED: Final = "named-files.json"
RESULTS: Final = "results.json"
PICTURES: Final = "reconstructions.npz"
CELLS: Final = "cells"
REPORT: Final = "report.html"
SUMMARY: Final = "summary.md"
FIGURES: Final = "figures"
# Hexadecimal digits of the hash in the name of a cell's files.
CELL_DIGITS: Final = 12
_CELL_FILE: Final = re.compile(
    rf"\.?seed-?\d+-T[\w+-]+-[0-9a-f]{{{CELL_DIGITS}}}\.(json|npz)(\.\d+\.partial)?"
)


def named_in(out: Path) -> dict[str, str]:
    """Digests of the files that a run's configuration names, of when it was begun."""
    if not (out / NAMED).exists():
        return {}
    digests: dict[str, str] = read_json(out / NAMED)
    return digests


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
            f"{path}: expected the results of a run, got {type(error).__name__}: {error}; {_AGAIN}"
        ) from error


def cell_files(folder: Path) -> list[Path]:
    """All files of cells in a folder, unfinished ones too."""
    return [path for path in folder.glob("*") if _CELL_FILE.fullmatch(path.name)]


def cell_name(seed: int, temperature: float) -> str:
    """Names a cell.

    Example:
        >>> cell_name(0, 3.0)
        'seed0-T3'
    """
    # No dot: `Path.with_suffix` would take "T1.5" for a name with a suffix.
    return f"seed{seed}-T{temperature:g}".replace(".", "_")


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes JSON so that the file is either whole or not there."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes text so that the file is either whole or not there."""
    partial = _partial(path)
    # A path may hold bytes that are no text.
    partial.write_text(text, encoding="utf-8", errors="backslashreplace")
    os.replace(partial, path)


def write_arrays(path: Path, arrays: Arrays) -> None:
    """Writes arrays so that the file is either whole or not there."""
    partial = _partial(path)
    with partial.open("wb") as stream:
        # Typed stubs take the second positional parameter for a flag.
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    os.replace(partial, path)


def is_unfinished(path: Path) -> bool:
    """Whether a process began to write the file, and ended before it had."""
    return path.name.startswith(".") and path.suffix == ".partial"


def _partial(path: Path) -> Path:
    """Where a file is written before it gets its name: by one process alone."""
    return path.with_name(f".{path.name}.{os.getpid()}.partial")
