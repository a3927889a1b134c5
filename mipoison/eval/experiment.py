"""Run every cell of an experiment and leave one folder with its configuration and its numbers."""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from joblib import Parallel, delayed
from rich.console import Console

from mipoison.eval.cell import run_cell, steps_of
from mipoison.eval.configuration import Configuration
from mipoison.eval.engines import engine_of
from mipoison.eval.environment import describe_environment
from mipoison.eval.gathering import gather
from mipoison.eval.named_files import named_files
from mipoison.eval.run_folder import CELLS, prepare_folder
from mipoison.eval.store import Store, cell_name
from mipoison.eval.ticks import progress_bars, tick

_DIED: Final = (
    "The process that ran this cell died, alone and without a traceback: killed for its memory, or by a fault in "
    "compiled code."
)


@dataclass(frozen=True)
class Outcome:
    """What became of a run.

    Attributes:
        complete: whether every cell is finished.
        failed: cells that failed, by name, with their tracebacks.
    """

    complete: bool
    failed: dict[str, str]


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
        FileExistsError: if the folder holds something else, or a run of files that have changed since, and
            ``overwrite`` is false.
        ValueError: if ``jobs`` is not positive, or the engine is unknown or not installed.
    """
    if jobs < 1:
        raise ValueError(f"jobs: expected a number >= 1, got {jobs}")
    with engine_of(engine):
        named = named_files(configuration)
        prepare_folder(out, configuration, named=named, overwrite=overwrite)
        # Other backends than joblib's own give no results before all are there.
        results = "generator_unordered" if engine == "loky" else "list"
        cells = _Cells(configuration, Store(out / CELLS), jobs, results)
        failed: dict[str, str] = {}
        with suppress(KeyboardInterrupt):
            cells.run(console, failed)
    complete = gather(configuration, out, failed=failed)
    return Outcome(complete, failed)


@dataclass(frozen=True)
class _Cells:
    """The cells of an experiment, where they are kept, and how they are spread."""

    configuration: Configuration
    store: Store
    jobs: int
    results: str

    def run(self, console: Console | None, failed: dict[str, str]) -> None:
        """Runs those that are not finished; of those that fail, the tracebacks go into ``failed``."""
        left = self._left(self.configuration.cells)
        if not left:
            return
        bars = [f"seed {seed}, T = {temperature:g}" for seed, temperature in left]
        with progress_bars(bars, steps_of(self.configuration), console=console) as files:
            ticks = dict(zip(left, files, strict=True))
            try:
                self._finish(ticks, min(self.jobs, len(left)), failed)
            except BrokenProcessPool:
                # Which process died is not told, and it took the others' work along: each once more, by itself.
                for cell in self._left(left):
                    if cell_name(*cell) in failed:
                        continue
                    ticks[cell].unlink(missing_ok=True)
                    try:
                        self._finish({cell: ticks[cell]}, 2, failed)
                    except BrokenProcessPool:
                        failed[cell_name(*cell)] = _DIED

    def _left(self, cells: Iterable[tuple[int, float]]) -> list[tuple[int, float]]:
        return [cell for cell in cells if not self.store.holds(self.configuration, *cell)]

    def _finish(
        self, ticks: dict[tuple[int, float], Path], jobs: int, failed: dict[str, str]
    ) -> None:
        # Workers are processes of one thread each; a single job runs here, in this process.
        workers = Parallel(n_jobs=jobs, return_as=self.results, batch_size=1)
        for name, trace in workers(
            delayed(_finish_cell)(self.configuration, self.store, *cell, file, self.jobs)
            for cell, file in ticks.items()
        ):
            if trace is not None:
                failed[name] = trace


def _finish_cell(
    configuration: Configuration,
    store: Store,
    seed: int,
    temperature: float,
    ticks: Path | None,
    jobs: int,
) -> tuple[str, str | None]:
    """Runs and keeps a cell; its name, and the traceback if it failed."""

    def done() -> None:
        # On another machine there is no such file to report to.
        if ticks is not None and ticks.parent.exists():
            tick(ticks)

    name = cell_name(seed, temperature)
    try:
        cell = run_cell(configuration, seed, temperature, tick=done)
        # Where and when it was measured, and not where it is gathered.
        where = {"environment": describe_environment(jobs=jobs)}
        store.put(configuration, seed, temperature, replace(cell, numbers=cell.numbers | where))
    except Exception:
        return name, traceback.format_exc()
    return name, None
