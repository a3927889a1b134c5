"""Show the progress of work that other processes do: bars on a terminal, plain lines in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import IO, Final, Protocol

from rich import get_console
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

# The least seconds between two lines, and their share of the time that has gone by: a long run has no long log.
_SECONDS: Final = 10.0
_SHARE: Final = 0.05


class ProgressLines:
    """Prints one line at the start and one every while, each with an estimate of the time left.

    Args:
        descriptions: what the tasks are called.
        steps: pieces of work in each.
        file: where the lines go; flushed after each.
        clock: seconds.
        unit: what the tasks are, in the plural.

    Example:
        >>> import sys
        >>> seconds = iter((0.0, 60.0, 90.0))
        >>> lines = ProgressLines(["seed 0"], 100, file=sys.stdout, clock=lambda: next(seconds))
        0 of 1 cells finished
        >>> lines.show([50])
        0 of 1 cells finished, 50% after 1:00, about 1:00 left (under way: seed 0)
        >>> lines.end()
        0 of 1 cells finished, 50% after 1:30
    """

    def __init__(
        self,
        descriptions: Sequence[str],
        steps: int,
        *,
        file: IO[str],
        clock: Callable[[], float] = time.monotonic,
        unit: str = "cells",
    ) -> None:
        self._unit = unit
        self._descriptions = descriptions
        self._steps = steps
        self._file = file
        self._clock = clock
        self._begun = self._told = clock()
        self._done: Sequence[int | None] = [None] * len(descriptions)
        self._print(self._finished)

    def show(self, done: Sequence[int | None]) -> None:
        """Prints a line if it is time for one.

        Args:
            done: steps of each task; None: it is not started.
        """
        self._done = done
        now = self._clock()
        gone = now - self._begun
        if now - self._told < max(_SECONDS, _SHARE * gone):
            return
        self._told = now
        share = self._share
        left = f", about {_time(gone * (1 - share) / share)} left" if 0 < share < 1 else ""
        going = [
            text
            for text, steps in zip(self._descriptions, done, strict=True)
            if steps is not None and steps < self._steps
        ]
        under_way = f" (under way: {'; '.join(going)})" if going else ""
        self._print(f"{self._finished}, {share:.0%} after {_time(gone)}{left}{under_way}")

    def end(self) -> None:
        """Prints what is finished."""
        self._print(
            f"{self._finished}, {self._share:.0%} after {_time(self._clock() - self._begun)}"
        )

    @property
    def _finished(self) -> str:
        count = sum(steps is not None and steps >= self._steps for steps in self._done)
        return f"{count} of {len(self._done)} {self._unit} finished"

    @property
    def _share(self) -> float:
        return sum(steps or 0 for steps in self._done) / (self._steps * len(self._done))

    def _print(self, line: str) -> None:
        print(line, file=self._file, flush=True)


def _time(seconds: float) -> str:
    """Hours, minutes and seconds.

    Example:
        >>> _time(7325.4), _time(65)
        ('2:02:05', '1:05')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class _Shown(Protocol):
    """Progress that is shown while its block runs."""

    def show(self, done: Sequence[int | None]) -> None:
        """Shows the steps done of each task; None: it is not started."""


@contextmanager
def progress_bars(
    descriptions: Sequence[str],
    steps: int,
    *,
    console: Console | None = None,
    unit: str = "cells",
) -> Iterator[list[Path]]:
    """Shows one bar a task while the block runs, and yields the file that moves each bar.

    Where nothing can be redrawn, as in a log, lines are printed instead, few enough to read.

    A file's length in bytes is the number of steps done (see `tick`): any process can report, and
    an interrupted one leaves nothing behind that others wait for.

    Args:
        descriptions: one line a task.
        steps: pieces of work in each task.
        console: where the bars go.
        unit: what the tasks are, in the plural, for the lines.
    """
    console = console or get_console()
    redrawn = console.is_jupyter or (console.is_terminal and not console.is_dumb_terminal)
    kind = _bars if redrawn else _lines
    with (
        TemporaryDirectory(prefix="mipoison-") as folder,
        kind(descriptions, steps, console, unit) as shown,
    ):
        files = [Path(folder) / str(number) for number in range(len(descriptions))]

        def show() -> None:
            shown.show([file.stat().st_size if file.exists() else None for file in files])

        done = Event()

        def watch() -> None:
            while not done.wait(0.2):
                show()

        watcher = Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield files
        finally:
            done.set()
            watcher.join()
            show()


class _Bars:
    """One bar a task."""

    def __init__(self, progress: Progress, descriptions: Sequence[str], steps: int) -> None:
        self._progress = progress
        self._tasks = [progress.add_task(text, total=steps, start=False) for text in descriptions]

    def show(self, done: Sequence[int | None]) -> None:
        """Moves the bars."""
        for task, steps in zip(self._tasks, done, strict=True):
            if steps is not None:
                self._progress.start_task(task)
                self._progress.update(task, completed=steps)


@contextmanager
def _bars(descriptions: Sequence[str], steps: int, console: Console, unit: str) -> Iterator[_Shown]:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn())
    times = (TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, *times, console=console) as progress:
        yield _Bars(progress, descriptions, steps)


@contextmanager
def _lines(
    descriptions: Sequence[str], steps: int, console: Console, unit: str
) -> Iterator[_Shown]:
    lines = ProgressLines(descriptions, steps, file=console.file, unit=unit)
    try:
        yield lines
    finally:
        lines.end()


def tick(file: Path) -> None:
    """Reports one piece of work."""
    with file.open("ab") as stream:
        stream.write(b".")
