"""Run every cell of an experiment and leave one folder with its configuration and its numbers."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from joblib import Parallel, delayed
from rich.console import Console

from mipoison.eval.cell import run_cell, steps_of
from mipoison.eval.configuration import Configuration
from mipoison.eval.environment import describe_environment
from mipoison.eval.summary import summarise
from mipoison.eval.ticks import progress_bars, tick

CONFIG, RESULTS, PICTURES = "config.json", "results.json", "reconstructions.npz"
_OWN = (CONFIG, RESULTS, PICTURES, "report.html")


def prepare_folder(out: Path, *, overwrite: bool = False) -> None:
    """Makes the output folder, and clears what an earlier run wrote there if told to.

    Args:
        out: the folder.
        overwrite: whether an earlier run's files may be replaced. Other files are left alone.

    Raises:
        FileExistsError: if the folder has content and ``overwrite`` is false, or is a file.
    """
    if out.exists() and not out.is_dir():
        raise FileExistsError(f"out: expected a folder, {out} is a file; choose another name")
    if out.exists() and any(out.iterdir()):
        if not overwrite:
            raise FileExistsError(
                f"out: {out} exists and is not empty; choose another folder, "
                "or replace its contents with --overwrite"
            )
        for path in (*(out / name for name in _OWN), *_cell_files(out), *out.glob("figures/*.png")):
            path.unlink(missing_ok=True)
    out.mkdir(parents=True, exist_ok=True)


def run(
    configuration: Configuration,
    out: Path,
    *,
    jobs: int = 1,
    overwrite: bool = False,
    console: Console | None = None,
) -> bool:
    """Runs all cells, writing each to disk as it finishes, and gathers them in results.json.

    Interrupted by Ctrl-C, it stops the work, gathers what was finished and says so in the file.

    Args:
        configuration: the experiment.
        out: output folder; gets config.json, results.json and reconstructions.npz.
        jobs: processes; the numbers do not depend on it.
        overwrite: whether to replace an earlier run.
        console: where the progress bars go.

    Returns:
        Whether every cell was finished.

    Raises:
        FileExistsError: if the folder has content and ``overwrite`` is false.
        ValueError: if ``jobs`` is not positive.
    """
    if jobs < 1:
        raise ValueError(f"jobs: expected a number >= 1, got {jobs}")
    prepare_folder(out, overwrite=overwrite)
    write_json(out / CONFIG, configuration.to_json())
    (out / "cells").mkdir(exist_ok=True)
    with suppress(KeyboardInterrupt):
        _run_cells(configuration, out, min(jobs, len(configuration.cells)), console)
    return gather(configuration, out, jobs=jobs)


def gather(configuration: Configuration, out: Path, *, jobs: int) -> bool:
    """Merges the finished cells into results.json and reconstructions.npz.

    Args:
        configuration: the experiment.
        out: its output folder.
        jobs: processes that ran, for the record.

    Returns:
        Whether every cell was there.
    """
    cells: list[dict[str, Any]] = []
    pictures: dict[str, npt.NDArray[np.float32]] = {}
    for seed, temperature in configuration.cells:
        stem = _stem(out, seed, temperature)
        if not stem.with_suffix(".json").exists():
            continue
        cells.append(json.loads(stem.with_suffix(".json").read_text()))
        with np.load(stem.with_suffix(".npz")) as images:
            pictures |= {f"{stem.name}/{name}": images[name] for name in images.files}
    if cells:
        results = {
            "format": 1,
            "complete": len(cells) == len(configuration.cells),
            "cells_finished": len(cells),
            "cells_planned": len(configuration.cells),
            "environment": describe_environment(jobs=jobs),
            "configuration": configuration.to_json(),
            "summary": summarise(cells),
            "cells": cells,
        }
        _write_arrays(out / PICTURES, pictures)
        write_json(out / RESULTS, results)
    for path in _cell_files(out):
        path.unlink()
    (out / "cells").rmdir()
    return len(cells) == len(configuration.cells)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes JSON so that the file is either whole or not there."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(partial, path)


def cell_name(seed: int, temperature: float) -> str:
    """Names a cell.

    Example:
        >>> cell_name(0, 3.0)
        'seed0-T3'
    """
    # No dot: `Path.with_suffix` would take "T1.5" for a name with a suffix.
    return f"seed{seed}-T{temperature:g}".replace(".", "_")


def _stem(out: Path, seed: int, temperature: float) -> Path:
    return out / "cells" / cell_name(seed, temperature)


def _cell_files(out: Path) -> list[Path]:
    return [path for path in out.glob("cells/*") if path.suffix in (".json", ".npz", ".partial")]


def _write_arrays(path: Path, arrays: dict[str, npt.NDArray[np.float32]]) -> None:
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as stream:
        # Typed stubs take the second positional parameter for a flag.
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    os.replace(partial, path)


def _finish_cell(
    configuration: Configuration,
    out: Path,
    seed: int,
    temperature: float,
    ticks: Path,
) -> None:
    cell = run_cell(configuration, seed, temperature, tick=lambda: tick(ticks))
    stem = _stem(out, seed, temperature)
    # The pictures first: a cell counts as finished once its numbers are there.
    _write_arrays(stem.with_suffix(".npz"), cell.images)
    write_json(stem.with_suffix(".json"), cell.numbers)


def _run_cells(configuration: Configuration, out: Path, jobs: int, console: Console | None) -> None:
    bars = [f"seed {seed}, T = {temperature:g}" for seed, temperature in configuration.cells]
    with progress_bars(bars, steps_of(configuration), console=console) as files:
        # Workers are processes of one thread each; a single job runs here, in this process.
        workers = Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)
        for _ in workers(
            delayed(_finish_cell)(configuration, out, seed, temperature, file)
            for (seed, temperature), file in zip(configuration.cells, files, strict=True)
        ):
            pass
