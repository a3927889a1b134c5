"""The folder of an unfinished output: its parts, what they are answers to, and how many are finished."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

_SUFFIX: Final = ".partial"
_STATE: Final = "state.json"
_NEW: Final = "state.json.new"
_FILES: Final = "files"


class Unfinished:
    """`OUT.partial`, held by one process at a time.

    Parts are finished in order: the answers to each row group of the first file, then the first file, and so on. A
    part counts as finished once the state says so, which is replaced as a whole.

    Args:
        out: where the output will lie.
        run: what the answers depend on; JSON types.

    Attributes:
        finished: number of files that are finished.

    Raises:
        ValueError: if it is that of another run, or another process is at work on it.
        OSError: if it cannot be written.
    """

    def __init__(self, out: Path, run: dict[str, Any]) -> None:
        # (As it comes back from a file.)
        self._out, self._run = out, json.loads(json.dumps(run))
        self._folder = out.with_name(out.name + _SUFFIX)
        self.finished = 0
        # Of each file, those that were answered by their labels alone in each finished row group.
        self._labels: list[list[int]] = []

    def __enter__(self) -> Unfinished:
        if not self._out.parent.is_dir():
            raise FileNotFoundError(f"expected a path in a folder that exists, got {self._out}")
        self._folder.mkdir(exist_ok=True)
        self._lock = os.open(self._folder, os.O_RDONLY)
        try:
            self._hold()
            self._read()
        except BaseException:
            os.close(self._lock)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._lock)

    @property
    def labels(self) -> int:
        """Rows that were answered by their labels alone."""
        return sum(map(sum, self._labels))

    def has(self, number: int, group: int) -> bool:
        """Whether the answers to a row group of a file are finished."""
        return number < len(self._labels) and group < len(self._labels[number])

    @contextlib.contextmanager
    def writing(self, number: int, group: int) -> Iterator[BinaryIO]:
        """Where the answers to a row group are written to."""
        with open(self._part(number, group), "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())

    def keep_part(self, number: int, labels: int) -> None:
        """The answers to a file's next row group are finished."""
        if number == len(self._labels):
            self._labels.append([])
        self._labels[number].append(labels)
        self._write()

    def parts(self, number: int) -> Iterator[Path]:
        """The answers to the row groups of a file, in order."""
        groups = len(self._labels[number]) if number < len(self._labels) else 0
        return (self._part(number, group) for group in range(groups))

    def file(self, name: Path) -> Path:
        """Where a file is written to."""
        path = self._folder / _FILES / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def keep_file(self, number: int, name: Path) -> None:
        """The next file is finished; its parts are not needed any more."""
        with open(self.file(name), "rb") as stream:
            os.fsync(stream.fileno())
        if number == len(self._labels):
            self._labels.append([])
        self.finished = number + 1
        self._write()
        for part in self.parts(number):
            part.unlink(missing_ok=True)

    def finish(self, name: Path | None) -> None:
        """Moves the output to its place.

        Args:
            name: of its only file; None: it is a folder.

        Raises:
            FileExistsError: if there is something by now.
        """
        if self._out.exists():
            raise FileExistsError(
                f"expected a path where nothing is, got {self._out}; move it, and run the same command again"
            )
        files = self._folder / _FILES
        os.rename(files if name is None else files / name, self._out)
        shutil.rmtree(self._folder)

    def _part(self, number: int, group: int) -> Path:
        return self._folder / f"{number}-{group}.arrow"

    def _hold(self) -> None:
        """Keeps other processes out, where the file system can."""
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                f"expected {self._folder} for this process alone, got one that is at work on it; wait for its end"
            ) from error
        except OSError:
            pass

    def _read(self) -> None:
        """Reads how far the run is, or begins it."""
        path = self._folder / _STATE
        if not path.exists():
            if {file.name for file in self._folder.iterdir()} - {_NEW}:
                raise ValueError(
                    f"expected the parts of an unfinished run in {self._folder}, got other files; choose another output"
                )
            self._write()
            return
        try:
            state = json.loads(path.read_text())
            theirs, self._labels, self.finished = (
                state["run"],
                state["labels"],
                state["finished"],
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"expected the state of an unfinished run in {path}, got something else; remove {self._folder}"
            ) from error
        other = [name for name, value in self._run.items() if theirs.get(name) != value]
        if other and not self._labels:
            # Nothing is lost.
            self._write()
        elif other:
            raise ValueError(
                f"expected {self._folder} to hold parts of this run, got those of one with other {', '.join(other)}; "
                "remove it to start anew, choose another output, or run the command that began it"
            )

    def _write(self) -> None:
        """Replaces the state."""
        state = {"run": self._run, "labels": self._labels, "finished": self.finished}
        partial = self._folder / _NEW
        with open(partial, "w", encoding="utf-8") as stream:
            json.dump(state, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, self._folder / _STATE)
