"""Run every cell of an experiment and leave one folder with its configuration and its numbers."""

from __future__ import annotations

import json
import shutil
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from joblib import Parallel, delayed, parallel_config
from rich.console import Console

from mipoison.eval.cell import run_cell, steps_of
from mipoison.eval.configuration import Configuration
from mipoison.eval.environment import describe_environment
from mipoison.eval.store import Store, cell_name, write_arrays, write_json
from mipoison.eval.summary import summarise
from mipoison.eval.ticks import progress_bars, tick

CONFIG, RESULTS, PICTURES, CELLS = "config.json", "results.json", "reconstructions.npz", "cells"
_OWN = (CONFIG, RESULTS, PICTURES, "report.html", "summary.md")
# What spreads the cells over processes or machines: joblib's own, or a backend of joblib.
ENGINES: Final = ("loky", "ray", "dask")


@dataclass(frozen=True)
class Outcome:
    """What became of a run.

    Attributes:
        complete: whether every cell is finished.
        failed: cells that failed, by name, with their tracebacks.
    """

    complete: bool
    failed: dict[str, str]


def prepare_folder(out: Path, configuration: Configuration, *, overwrite: bool = False) -> None:
    """Makes the output folder, goes on with an earlier run of the same experiment, or clears it if told to.

    Args:
        out: the folder.
        configuration: the experiment. With other seeds and temperatures it is still the same.
        overwrite: whether an earlier run's files may be replaced. Other files are left alone.

    Raises:
        FileExistsError: if the folder holds something else and ``overwrite`` is false, or is a file.
    """
    if out.exists() and not out.is_dir():
        raise FileExistsError(f"out: expected a folder, {out} is a file; choose another name")
    if out.exists() and any(out.iterdir()):
        if overwrite:
            store = Store(out / CELLS)
            own = (*(out / name for name in _OWN), *store.files(), *out.glob("figures/*.png"))
            for path in own:
                path.unlink(missing_ok=True)
        elif not _same_experiment(out, configuration):
            raise FileExistsError(
                f"out: {out} holds something else than a run of this experiment; choose another "
                "folder, or replace what a run left there with --overwrite"
            )
    out.mkdir(parents=True, exist_ok=True)


def run(
    configuration: Configuration,
    out: Path,
    *,
    jobs: int = 1,
    engine: str = "loky",
    overwrite: bool = False,
    console: Console | None = None,
) -> Outcome:
    """Runs all cells that are not finished yet, each kept as it ends, and gathers them in results.json.

    Interrupted in whatever way, it goes on where it was when it is called again: only cells under way are lost. A
    cell that fails is reported with its traceback, and the rest goes on.

    Args:
        configuration: the experiment.
        out: output folder; gets config.json, results.json, reconstructions.npz and cells/.
        jobs: processes; the numbers do not depend on it.
        engine: one of `ENGINES`; "ray" and "dask" use a cluster that is there, or start a local one.
        overwrite: whether to replace an earlier run.
        console: where the progress bars go.

    Returns:
        Whether every cell was finished, and which failed.

    Raises:
        FileExistsError: if the folder holds something else and ``overwrite`` is false.
        ValueError: if ``jobs`` is not positive, or the engine is unknown or not installed.
    """
    if jobs < 1:
        raise ValueError(f"jobs: expected a number >= 1, got {jobs}")
    with _engine(engine):
        prepare_folder(out, configuration, overwrite=overwrite)
        write_json(out / CONFIG, configuration.to_json())
        store = Store(out / CELLS)
        failed: dict[str, str] = {}
        with suppress(KeyboardInterrupt):
            # Other backends than joblib's own give no results before all are there.
            results = "generator_unordered" if engine == "loky" else "list"
            _run_cells(configuration, store, jobs, results, console, failed)
    complete = gather(configuration, out, jobs=jobs, failed=failed)
    return Outcome(complete, failed)


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
        ValueError: if they are not one experiment.
    """
    if out.exists() and any(out.iterdir()):
        raise FileExistsError(f"out: expected a new folder, {out} is not empty")
    for folder in runs:
        if not (folder / CONFIG).exists():
            raise FileNotFoundError(f"expected a run with a {CONFIG} in {folder}, found none")
    first, *others = [
        Configuration.from_json(json.loads((folder / CONFIG).read_text())) for folder in runs
    ]
    for folder, other in zip(runs[1:], others, strict=True):
        if not _same_experiment(runs[0], other):
            raise ValueError(
                f"expected runs of one experiment, seeds and temperatures aside; {folder} is of "
                f"another one than {runs[0]}"
            )
    whole = replace(
        first,
        seeds=tuple(dict.fromkeys(seed for one in (first, *others) for seed in one.seeds)),
        temperatures=tuple(dict.fromkeys(t for one in (first, *others) for t in one.temperatures)),
    )
    (out / CELLS).mkdir(parents=True)
    for folder in runs:
        for file in Store(folder / CELLS).files():
            shutil.copy(file, out / CELLS)
    write_json(out / CONFIG, whole.to_json())
    return gather(whole, out, jobs=1)


def gather(
    configuration: Configuration, out: Path, *, jobs: int, failed: dict[str, str] | None = None
) -> bool:
    """Merges the finished cells into results.json and reconstructions.npz.

    Args:
        configuration: the experiment.
        out: its output folder.
        jobs: processes that ran, for the record.
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
            "environment": describe_environment(jobs=jobs),
            "configuration": configuration.to_json(),
            "summary": summarise(cells),
            "cells": cells,
        }
        write_arrays(out / PICTURES, pictures)
        write_json(out / RESULTS, results)
    return complete


def _same_experiment(out: Path, configuration: Configuration) -> bool:
    if not (out / CONFIG).exists():
        return False
    try:
        # What an older version did not ask has its default.
        there = Configuration.from_json(json.loads((out / CONFIG).read_text()))
    except (ValueError, TypeError, KeyError, AttributeError):
        return False
    return replace(there, seeds=configuration.seeds, temperatures=configuration.temperatures) == (
        configuration
    )


@contextmanager
def _engine(name: str) -> Iterator[None]:
    """Joblib's backend for the block.

    Raises:
        ValueError: if it is unknown or not installed.
    """
    if name not in ENGINES:
        raise ValueError(f"engine: expected one of {', '.join(ENGINES)}, got {name!r}")
    try:
        if name == "ray":
            from ray.util.joblib import register_ray

            register_ray()
        elif name == "dask":
            from distributed import Client, get_client
    except ImportError as error:
        package = {"ray": "ray", "dask": "dask[distributed]"}[name]
        raise ValueError(
            f"engine: expected {package} to be installed for {name!r}; pip install '{package}'"
        ) from error
    with ExitStack() as stack:
        if name == "dask":
            try:
                get_client()
            except ValueError:
                stack.enter_context(Client())
        stack.enter_context(parallel_config(backend=name))
        yield


def _finish_cell(
    configuration: Configuration, store: Store, seed: int, temperature: float, ticks: Path | None
) -> tuple[str, str | None]:
    """Runs and keeps a cell; its name, and the traceback if it failed."""

    def done() -> None:
        # On another machine there is no such file to report to.
        if ticks is not None and ticks.parent.exists():
            tick(ticks)

    name = cell_name(seed, temperature)
    try:
        cell = run_cell(configuration, seed, temperature, tick=done)
        store.put(configuration, seed, temperature, cell)
    except Exception:
        return name, traceback.format_exc()
    return name, None


def _run_cells(
    configuration: Configuration,
    store: Store,
    jobs: int,
    results: str,
    console: Console | None,
    failed: dict[str, str],
) -> None:
    left = [cell for cell in configuration.cells if not store.holds(configuration, *cell)]
    bars = [f"seed {seed}, T = {temperature:g}" for seed, temperature in left]
    if not left:
        return
    with progress_bars(bars, steps_of(configuration), console=console) as files:
        # Workers are processes of one thread each; a single job runs here, in this process.
        workers = Parallel(n_jobs=min(jobs, len(left)), return_as=results, batch_size=1)
        for name, trace in workers(
            delayed(_finish_cell)(configuration, store, *cell, file)
            for cell, file in zip(left, files, strict=True)
        ):
            if trace is not None:
                failed[name] = trace
