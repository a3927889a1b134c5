"""Show the progress of work that other processes do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import Protocol

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

from mipoison.eval.progress_lines import ProgressLines


class _Shown(Protocol):
    """Progress that is shown while its block runs."""

    def show(self, done: Sequence[int | None]) -> None:
        """Shows the steps done of each task; None: it is not started."""


@contextmanager
def progress_bars(
    descriptions: Sequence[str], steps: int, *, console: Console | None = None
) -> Iterator[list[Path]]:
    """Shows one bar a task while the block runs, and yields the file that moves each bar.

    Where nothing can be redrawn, as in a log, lines are printed instead, few enough to read.

    A file's length in bytes is the number of steps done (see `tick`): any process can report, and
    an interrupted one leaves nothing behind that others wait for.

    Args:
        descriptions: one line a task.
        steps: pieces of work in each task.
        console: where the bars go.
    """
    console = console or get_console()
    redrawn = console.is_jupyter or (console.is_terminal and not console.is_dumb_terminal)
    kind = _bars if redrawn else _lines
    with (
        TemporaryDirectory(prefix="mipoison-") as folder,
        kind(descriptions, steps, console) as shown,
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
def _bars(descriptions: Sequence[str], steps: int, console: Console) -> Iterator[_Shown]:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn())
    times = (TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, *times, console=console) as progress:
        yield _Bars(progress, descriptions, steps)


@contextmanager
def _lines(descriptions: Sequence[str], steps: int, console: Console) -> Iterator[_Shown]:
    lines = ProgressLines(descriptions, steps, file=console.file)
    try:
        yield lines
    finally:
        lines.end()


def tick(file: Path) -> None:
    """Reports one piece of work."""
    with file.open("ab") as stream:
        stream.write(b".")
