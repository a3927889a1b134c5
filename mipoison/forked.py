"""One thread in a forked child: torch waits there for good for the threads of its parent, if those had computed."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import torch

_Function = TypeVar("_Function", bound=Callable[..., Any])


class _OneThread(threading.local):
    """A region in which this thread's computations by torch use no other thread, if this process is a forked child.

    How many threads torch takes is a setting of each thread.
    """

    # Of all threads.
    child = False
    # How many regions this thread is inside, and its setting before the first.
    _depth = 0
    _before = 1

    def __enter__(self) -> None:
        if not self.child:
            return
        if self._depth == 0:
            self._before = torch.get_num_threads()
            torch.set_num_threads(1)
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        # (Nothing was entered by a parent that is no child.)
        if self._depth == 0:
            return
        self._depth -= 1
        if self._depth == 0:
            torch.set_num_threads(self._before)


def _in_child() -> None:
    _OneThread.child = True


one_thread: Final = _OneThread()
os.register_at_fork(after_in_child=_in_child)


def fork_safe(function: _Function) -> _Function:
    """Runs a function on one thread in a forked child."""

    @functools.wraps(function)
    def safe(*given: Any, **named: Any) -> Any:
        if not one_thread.child or torch.compiler.is_compiling():
            return function(*given, **named)
        with one_thread:
            return function(*given, **named)

    return cast(_Function, safe)
