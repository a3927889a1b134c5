"""Show the share that is done: one line that changes on a terminal, a few plain lines in a log."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final, TextIO

# Least seconds between two lines of a log, and between two changes of a line.
_SECONDS: Final = 10.0
_REDRAWN: Final = 0.2


class Shown:
    """Called with the share that is done.

    Args:
        stream: where it is shown.
        clock: seconds.

    Example:
        >>> import sys
        >>> seconds = iter((0.0, 5.0, 60.0, 120.0))
        >>> shown = Shown(sys.stdout, clock=lambda: next(seconds))
        >>> shown(0.1), shown(0.5), shown(1.0)
        50% after 0:01:00, about 0:01:09 left
        100% after 0:02:00
        (None, None, None)
    """

    def __init__(self, stream: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._clock = stream, clock
        self._redrawn = stream.isatty()
        self._begun = self._told = clock()
        self._open = False
        # The first report, which an interrupted run may have done most of.
        self._first: tuple[float, float] | None = None

    def __call__(self, share: float) -> None:
        """Shows the share, if it is time for it."""
        now = self._clock()
        then, before = self._first = self._first or (now, share)
        if now - self._told < (_REDRAWN if self._redrawn else _SECONDS):
            return
        self._told = now
        text = f"{share:.0%} after {_time(now - self._begun)}"
        if before < share < 1:
            text += f", about {_time((now - then) * (1 - share) / (share - before))} left"
        self._open = self._redrawn
        text = f"\r{text}\x1b[K" if self._redrawn else f"{text}\n"
        print(text, end="", file=self._stream, flush=True)

    def end(self) -> None:
        """Ends the line."""
        if self._open:
            print(file=self._stream, flush=True)
            self._open = False


def _time(seconds: float) -> timedelta:
    return timedelta(seconds=round(seconds))
