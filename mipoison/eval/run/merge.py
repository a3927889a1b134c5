"""Merge several runs of one experiment into one folder."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mipoison.eval.report.results_file import (
    CELLS,
    cell_files,
    named_in,
)
from mipoison.eval.run.folder import configuration_in, prepare_folder, same_experiment
from mipoison.eval.run.store import gather


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
        ValueError: if they are not one experiment, one is damaged, or two have a cell of one seed and temperature.
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
    cells = Counter(file.name for folder in runs for file in cell_files(folder / CELLS))
    if twice := [name for name, times in cells.items() if times > 1]:
        raise ValueError(
            f"expected each cell in one run, got {twice[0]} in several; leave one of these runs out"
        )
    whole = replace(
        first,
        seeds=tuple(dict.fromkeys(seed for one in configurations for seed in one.seeds)),
        temperatures=tuple(dict.fromkeys(t for one in configurations for t in one.temperatures)),
    )
    prepare_folder(out, whole, named=named)
    (out / CELLS).mkdir()
    for folder in runs:
        for file in cell_files(folder / CELLS):
            shutil.copy(file, out / CELLS)
    return gather(whole, out)
