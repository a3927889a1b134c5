"""Keep each cell's result in files of its own, so that an interrupted experiment goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mipoison.eval.cell import Cell
from mipoison.eval.configuration import Configuration
from mipoison.eval.results_file import Arrays, read_arrays, read_json
from mipoison.eval.scalars import real, whole

# Counts up when cells of older versions must not be taken for new ones.
FORMAT = 6
# A name keeps so many digits of the hash.
_DIGITS = 12
_OURS = re.compile(rf"\.?seed-?\d+-T[\w+-]+-[0-9a-f]{{{_DIGITS}}}\.(json|npz)(\.\d+\.partial)?")


@dataclass(frozen=True)
class Store:
    """The cells of one output folder.

    A cell's files are named by its seed, its temperature, and a hash of all that its configuration says: a cell of
    another configuration is never taken for this one's. (One of another version of the code is: FORMAT counts the
    versions that change numbers.) They appear whole or not at all.

    Attributes:
        folder: where they lie.
    """

    folder: Path

    def stem(self, configuration: Configuration, seed: int, temperature: float) -> Path:
        """The files of a cell, without their suffix."""
        plain = configuration.to_json() | {
            "seeds": [whole("seed", seed)],
            "temperatures": [real("temperature", temperature)],
        }
        content = json.dumps([FORMAT, plain], sort_keys=True)
        digest = hashlib.sha256(content.encode()).hexdigest()[:_DIGITS]
        return self.folder / f"{cell_name(seed, temperature)}-{digest}"

    def holds(self, configuration: Configuration, seed: int, temperature: float) -> bool:
        """Whether a cell is finished."""
        stem = self.stem(configuration, seed, temperature)
        return all(stem.with_suffix(suffix).exists() for suffix in (".json", ".npz"))

    def check(self, configuration: Configuration) -> None:
        """Reads what is there of an experiment.

        Raises:
            ValueError: if a file is damaged.
        """
        for cell in configuration.cells:
            if self.holds(configuration, *cell):
                self.get(configuration, *cell)

    def put(self, configuration: Configuration, seed: int, temperature: float, cell: Cell) -> None:
        """Keeps a finished cell."""
        self.folder.mkdir(parents=True, exist_ok=True)
        stem = self.stem(configuration, seed, temperature)
        # The pictures first: a cell counts as finished once its numbers are there.
        write_arrays(stem.with_suffix(".npz"), cell.images)
        write_json(stem.with_suffix(".json"), cell.numbers)

    def get(
        self, configuration: Configuration, seed: int, temperature: float
    ) -> tuple[dict[str, Any], Arrays]:
        """A finished cell's numbers and pictures.

        Raises:
            FileNotFoundError: if the pictures are gone.
            ValueError: if a file is damaged.
        """
        stem = self.stem(configuration, seed, temperature)
        return read_json(stem.with_suffix(".json")), read_arrays(stem.with_suffix(".npz"))

    def files(self) -> list[Path]:
        """Everything that a store wrote here, unfinished files too."""
        return [path for path in self.folder.glob("*") if _OURS.fullmatch(path.name)]


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
