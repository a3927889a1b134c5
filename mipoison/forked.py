"""One thread in a forked child: torch waits there for good for the threads of its parent, if those had computed."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, TypeVar, cast

import torch

_Function = TypeVar("_Function", bound=Callable[..., Any])


class _OneThread:
    """A region in which torch computes on one thread, if this process is a forked child.

    The number of threads belongs to the whole process. The first thread to enter sets it, and the last to leave
    restores it.
    """

    def __init__(self) -> None:
        self.child = False
        self._lock = threading.Lock()
        self._inside = 0
        self._before = 1

    def begin_anew(self) -> None:
        """Resets the state in a forked child, where its parent's threads do not exist."""
        if self._inside > 0:
            torch.set_num_threads(self._before)
        self.child, self._lock, self._inside = True, threading.Lock(), 0

    def __enter__(self) -> None:
        if not self.child:
            return
        with self._lock:
            if self._inside == 0:
                self._before = torch.get_num_threads()
                torch.set_num_threads(1)
            self._inside += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self.child:
            return
        with self._lock:
            # A child that is forked inside leaves what its parent entered.
            if self._inside == 0:
                return
            self._inside -= 1
            if self._inside == 0:
                torch.set_num_threads(self._before)


one_thread: Final = _OneThread()
os.register_at_fork(after_in_child=one_thread.begin_anew)


def fork_safe(function: _Function) -> _Function:
    """Runs a function on one thread in a forked child."""

    @functools.wraps(function)
    def safe(*given: Any, **named: Any) -> Any:
        if not one_thread.child:
            return function(*given, **named)
        with one_thread:
            return function(*given, **named)

    return cast(_Function, safe)
