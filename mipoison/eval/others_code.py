"""Say in one line what code that is not ours raised, and where."""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final

# Our own code, Python's, and what is no file.
_NOT_THEIRS: Final = (str(Path(__file__).parents[1]), sysconfig.get_path("stdlib"), "<")
_MOST: Final = 300


@contextmanager
def in_one_line(said: str, *, advice: str = "") -> Iterator[None]:
    """Makes a ValueError of whatever the block raises.

    Args:
        said: what was done to whom, the beginning of the message.
        advice: its end.

    Example:
        >>> with in_one_line("target: mine:net, asked with 32 images,"):
        ...     raise KeyError("x")
        Traceback (most recent call last):
        ValueError: target: mine:net, asked with 32 images, raised KeyError: 'x'
    """
    try:
        yield
    except (Exception, SystemExit) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no message"]
        # TorchScript puts its own source before what went wrong.
        message = lines[-1] if "Traceback" in str(error) else lines[0]
        message = f"{type(error).__name__}: {message[:_MOST]}"
        raise ValueError(f"{said} raised {message}{_place(error.__traceback__)}{advice}") from error


def _place(trace: TracebackType | None) -> str:
    """The innermost line that is neither ours nor a library's."""
    theirs = [
        frame
        for frame in traceback.extract_tb(trace)
        if not frame.filename.startswith(_NOT_THEIRS) and "site-packages" not in frame.filename
    ]
    return f" ({Path(theirs[-1].filename).name}:{theirs[-1].lineno})" if theirs else ""
