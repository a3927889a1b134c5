"""End with a signal in order: the command cleans up, and no process of its own outlives it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import FrameType
from typing import Final

# What ends a command: Ctrl-C, a scheduler or `kill`, a terminal that is closed.
_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# How often a worker looks whether its parent is there.
_SECONDS: Final = 0.5


class Signals:
    """What ended a block.

    Attributes:
        code: exit code for it, 128 and the signal's number; 0: no signal came.
    """

    code = 0

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Ends what is under way by KeyboardInterrupt, and whoever does not wait for that at once."""
        if self.code:
            os._exit(self.code)
        self.code = 128 + number
        raise KeyboardInterrupt


@contextmanager
def caught_signals() -> Iterator[Signals]:
    """SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt in the block, unless the process ignores them."""
    signals = Signals()
    before = {}
    # Python lets no other thread receive any.
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in _ENDING}
    caught = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    for number in caught:
        signal.signal(number, signals.receive)
    try:
        yield signals
    finally:
        for number in caught:
            signal.signal(number, before[number])


@cache
def end_with_parent(parent: int) -> None:
    """Makes a worker end when its parent does, however that ends, and leave Ctrl-C to it; once in each worker.

    Args:
        parent: its process id, as itself knows it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    # An orphan is given another parent.
    while os.getppid() == parent:
        time.sleep(_SECONDS)
    os._exit(1)
