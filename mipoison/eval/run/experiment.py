"""Run every cell of an experiment and leave one folder with its configuration and its numbers."""

from __future__ import annotations

import errno
import os
import traceback
from collections.abc import Iterable, Mapping
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from joblib import Parallel, delayed
from rich.console import Console

from mipoison.eval.configuration import Configuration
from mipoison.eval.report.results_file import CELLS, cell_name
from mipoison.eval.run.cell import run_cell, steps_of
from mipoison.eval.run.engines import end_with_parent, engine_of
from mipoison.eval.run.environment import describe_environment
from mipoison.eval.run.folder import named_files, prepare_folder
from mipoison.eval.run.preflight import check
from mipoison.eval.run.progress import progress_bars, tick
from mipoison.eval.run.store import Store, gather
from mipoison.eval.scalars import whole
from mipoison.eval.scores.victims import NothingToDefend

_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
# Seed and temperature.
CellKey: TypeAlias = tuple[int, float]
_DIED: Final = (
    "The process that ran this cell died, with no other beside it and without a traceback: killed for its memory, or "
    "by a fault in compiled code. Give it more memory or a smaller experiment, or mend what it calls."
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
    cell that fails is reported with its traceback, and the rest goes on; also where its process dies, but for ``jobs``
    of 1 and for other engines than joblib's own.

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
        FileNotFoundError: if a file that the experiment names is missing.
        ValueError: if ``jobs`` is not positive, the engine is unknown or not installed, or the data, the target or an
            outside defense does not fit, see `preflight.check`; no cell has started then.
    """
    jobs = whole("jobs", jobs, least=1)
    with engine_of(engine):
        named = named_files(configuration)
        store = Store(out / CELLS)
        if overwrite or not all(store.holds(configuration, *cell) for cell in configuration.cells):
            check(configuration)
        prepare_folder(out, configuration, named=named, overwrite=overwrite)
        store.check(configuration)
        # Other backends than joblib's own give no results before all are there.
        results = "generator_unordered" if engine == "loky" else "list"
        # Nor are their workers children of this process.
        parent = os.getpid() if engine == "loky" else None
        cells = _Cells(configuration, store, jobs, results, parent)
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
    parent: int | None

    def run(self, console: Console | None, failed: dict[str, str]) -> None:
        """Runs those that are not finished; of those that fail, the tracebacks go into ``failed``."""
        left = self._left(self.configuration.cells, failed)
        if not left:
            return
        bars = [f"seed {seed}, T = {temperature:g}" for seed, temperature in left]
        with progress_bars(bars, steps_of(self.configuration), console=console) as files:
            progress = dict(zip(left, files, strict=True))
            while left:
                try:
                    self._finish(left, progress, failed)
                except BrokenProcessPool:
                    # Which process died is not told, and it took along what the others were at.
                    begun = [cell for cell in self._left(left, failed) if progress[cell].exists()]
                    self._finish_alone(begun or left, progress, failed)
                left = self._left(left, failed)

    def _finish_alone(
        self, cells: list[CellKey], progress: dict[CellKey, Path], failed: dict[str, str]
    ) -> None:
        """One after the other, each in a process of its own, so that one that dies takes no other along."""
        for cell in cells:
            progress[cell].write_bytes(b"")
            try:
                self._finish([cell], progress, failed)
            except BrokenProcessPool:
                failed[cell_name(*cell)] = _DIED

    def _left(self, cells: Iterable[CellKey], failed: Mapping[str, str]) -> list[CellKey]:
        """Those that neither finished nor failed."""
        return [
            cell
            for cell in cells
            if cell_name(*cell) not in failed and not self.store.holds(self.configuration, *cell)
        ]

    def _finish(
        self, cells: list[CellKey], progress: dict[CellKey, Path], failed: dict[str, str]
    ) -> None:
        """Raises BrokenProcessPool if a process of joblib's own dies."""
        # Workers are processes of one thread each. One job runs here, in this process; of several also a last cell has
        # a process of its own, whose death is survived.
        jobs = min(self.jobs, max(2, len(cells)))
        workers = Parallel(n_jobs=jobs, return_as=self.results, batch_size=1)
        for name, trace in workers(
            delayed(_finish_cell)(
                self.configuration, self.store, *cell, progress[cell], self.jobs, self.parent
            )
            for cell in cells
        ):
            if trace is not None:
                failed[name] = trace


def _finish_cell(
    configuration: Configuration,
    store: Store,
    seed: int,
    temperature: float,
    progress: Path,
    jobs: int,
    parent: int | None,
) -> tuple[str, str | None]:
    """Runs and keeps a cell; its name, and the traceback if it failed."""
    if parent is not None and parent != os.getpid():
        end_with_parent(parent)
    # On another machine there is no such file to report to.
    here = progress.parent.exists()
    if here:
        progress.touch()

    def done() -> None:
        if here:
            tick(progress)

    name = cell_name(seed, temperature)
    try:
        cell = run_cell(configuration, seed, temperature, tick=done)
        # Where and when it was measured, and not where it is gathered.
        where = {"environment": describe_environment(jobs=jobs)}
        store.put(configuration, seed, temperature, cell.numbers | where, cell.images)
    except Exception as error:
        # Their messages say everything; a traceback would only show, of a full disk, which line wrote last.
        full = isinstance(error, OSError) and error.errno in _FULL
        told = full or isinstance(error, NothingToDefend)
        return name, f"{type(error).__name__}: {error}" if told else traceback.format_exc()
    return name, None
