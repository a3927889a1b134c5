"""Keep each cell's result in files of its own, and gather the finished ones in results.json."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from mipoison.eval.configuration import Configuration
from mipoison.eval.report.results_file import (
    CELL_DIGITS,
    CELLS,
    PICTURES,
    RESULTS,
    Arrays,
    cell_name,
    named_in,
    read_arrays,
    read_json,
    write_arrays,
    write_json,
)
from mipoison.eval.run.environment import together
from mipoison.eval.scalars import real, whole
from mipoison.eval.scores.summary import summarise

# Counts up with every change of a cell's numbers: an unfinished run does not go on with cells of another format.
FORMAT: Final = 1


@dataclass(frozen=True)
class Store:
    """The cells of one output folder.

    A cell's files are named by its seed, its temperature, and a hash of all that its configuration says: a cell of
    another configuration or of another FORMAT is never taken for this one's. They appear whole or not at all.

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
        digest = hashlib.sha256(content.encode()).hexdigest()[:CELL_DIGITS]
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

    def put(
        self,
        configuration: Configuration,
        seed: int,
        temperature: float,
        numbers: dict[str, Any],
        images: Arrays,
    ) -> None:
        """Keeps a finished cell's numbers and images."""
        self.folder.mkdir(parents=True, exist_ok=True)
        stem = self.stem(configuration, seed, temperature)
        # The pictures first: a cell counts as finished once its numbers are there.
        write_arrays(stem.with_suffix(".npz"), images)
        write_json(stem.with_suffix(".json"), numbers)

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


def gather(
    configuration: Configuration, out: Path, *, failed: dict[str, str] | None = None
) -> bool:
    """Merges the finished cells into results.json and reconstructions.npz.

    Args:
        configuration: the experiment.
        out: its output folder.
        failed: cell to traceback.

    Returns:
        Whether every cell was there.
    """
    store = Store(out / CELLS)
    cells: list[dict[str, Any]] = []
    pictures: dict[str, npt.NDArray[np.float32]] = {}
    for cell in configuration.cells:
        if store.holds(configuration, *cell):
            numbers, images = store.get(configuration, *cell)
            cells.append(numbers)
            pictures |= {f"{cell_name(*cell)}/{name}": image for name, image in images.items()}
    complete = len(cells) == len(configuration.cells)
    if cells:
        results = {
            "format": 1,
            "complete": complete,
            "cells_finished": len(cells),
            "cells_planned": len(configuration.cells),
            "failed": failed or {},
            "environment": together([cell["environment"] for cell in cells]),
            "named_files": named_in(out),
            "configuration": configuration.to_json(),
            "summary": summarise(cells),
            "cells": cells,
        }
        write_arrays(out / PICTURES, pictures)
        write_json(out / RESULTS, results)
    return complete
