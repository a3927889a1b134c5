"""Gather the finished cells of one run, or of several, in one file of results."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mipoison.eval.configuration import Configuration
from mipoison.eval.environment import together
from mipoison.eval.run_folder import (
    CELLS,
    PICTURES,
    RESULTS,
    configuration_in,
    named_in,
    prepare_folder,
    same_experiment,
)
from mipoison.eval.store import Store, cell_name, write_arrays, write_json
from mipoison.eval.summary import summarise


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


def merge(runs: Sequence[Path], out: Path) -> bool:
    """Gathers the cells of several runs of one experiment, other seeds and temperatures aside, in a new folder.

    Args:
        runs: their output folders.
        out: a new folder.

    Returns:
        Whether every seed is there at every temperature.

    Raises:
        FileExistsError: if the folder has content.
        FileNotFoundError: if a folder holds no run.
        ValueError: if they are not one experiment, or one is of another version.
    """
    if out.exists() and any(out.iterdir()):
        raise FileExistsError(f"out: expected a new folder, {out} is not empty")
    configurations = [configuration_in(folder) for folder in runs]
    first, *others = configurations
    named = named_in(runs[0])
    for folder, other in zip(runs[1:], others, strict=True):
        if not same_experiment(first, other) or named_in(folder) != named:
            raise ValueError(
                f"expected runs of one experiment and of the same files, seeds and temperatures aside; {folder} is of "
                f"another one than {runs[0]}"
            )
    whole = replace(
        first,
        seeds=tuple(dict.fromkeys(seed for one in configurations for seed in one.seeds)),
        temperatures=tuple(dict.fromkeys(t for one in configurations for t in one.temperatures)),
    )
    prepare_folder(out, whole, named=named)
    (out / CELLS).mkdir()
    for folder in runs:
        for file in Store(folder / CELLS).files():
            shutil.copy(file, out / CELLS)
    return gather(whole, out)
