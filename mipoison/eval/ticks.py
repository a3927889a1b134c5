"""Show the progress of work that other processes do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn


@contextmanager
def progress_bars(
    descriptions: Sequence[str], steps: int, *, console: Console | None = None
) -> Iterator[list[Path]]:
    """Shows one bar a task while the block runs, and yields the file that moves each bar.

    A file's length in bytes is the number of steps done (see `tick`): any process can report, and
    an interrupted one leaves nothing behind that others wait for.

    Args:
        descriptions: one line a task.
        steps: pieces of work in each task.
        console: where the bars go.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with (
        TemporaryDirectory(prefix="mipoison-") as folder,
        Progress(*columns, TimeElapsedColumn(), console=console) as progress,
    ):
        files = [Path(folder) / str(number) for number in range(len(descriptions))]
        tasks = [progress.add_task(text, total=steps, start=False) for text in descriptions]

        def show() -> None:
            for task, file in zip(tasks, files, strict=True):
                if file.exists():
                    progress.start_task(task)
                    progress.update(task, completed=file.stat().st_size)

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


def tick(file: Path) -> None:
    """Reports one piece of work."""
    with file.open("ab") as stream:
        stream.write(b".")
