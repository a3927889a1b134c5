"""Tell callbacks that drift has begun or ended: each change once, in the order of the changes, outside all locks."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from mipoison.serve.readings import Readings

Callback: TypeAlias = "Callable[[Readings], object]"
_LOG: Final = logging.getLogger("mipoison.serve")


class Callbacks:
    """Changes that wait to be told, and the functions that are told them.

    Args:
        functions: called with the readings of each change. What they raise is logged and counted; KeyboardInterrupt
            alone passes.
    """

    def __init__(self, functions: Sequence[Callback]) -> None:
        self.errors = 0
        self._functions = tuple(functions)
        self._lock = threading.Lock()
        self._changes: deque[Readings] = deque()
        self._telling = False

    def add(self, change: Readings) -> None:
        """Puts a change behind those that wait."""
        self._changes.append(change)

    def tell(self) -> None:
        """Tells what waits; returns at once where another thread, or a call around this one, is telling."""
        while self._changes:
            with self._lock:
                if self._telling or not self._changes:
                    return
                self._telling = True
                change = self._changes.popleft()
            try:
                self._tell(change)
            finally:
                with self._lock:
                    self._telling = False

    def _tell(self, change: Readings) -> None:
        if change.drifting:
            _LOG.warning("traffic drifts: %s", change.reason)
        else:
            _LOG.warning("traffic is as expected again")
        for function in self._functions:
            try:
                function(change)
            except KeyboardInterrupt:
                raise
            except BaseException:
                _LOG.exception("a callback of a meter raised")
                # (One thread at a time is here.)
                self.errors += 1


def as_callbacks(given: Sequence[Callback]) -> tuple[Callback, ...]:
    """Raises TypeError for anything but functions."""
    if callable(given) or not isinstance(given, Sequence):
        raise TypeError(
            f"expected callbacks to be a list of functions, got {type(given).__name__}; write callbacks=[f]"
        )
    for one in given:
        if not callable(one):
            raise TypeError(f"expected callbacks to be functions, got {type(one).__name__}")
    return tuple(given)
