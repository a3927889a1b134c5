"""Parts of a call beside each other, each computed by a thread of its own that uses no other.

Torch's threads wait busily for their next operation, and so keep the kernels' threads from a core. A batch of 256 rows
of 1000 classes took as long on two threads as on one. Here every thread does all operations of a part by itself.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

import torch

from mipoison.forked import one_thread
from mipoison.neutral import neutral

# Of all calls of a process together; parts of further ones wait.
_MOST: Final = 256

_beginning = threading.Lock()
_pool: ThreadPoolExecutor | None = None


def side_by_side(work: Callable[[slice], None], parts: Sequence[slice], threads: int) -> None:
    """Does the work of every part of a call, and returns when no part is at work any more.

    Autograd records nothing, and floating point is `neutral`. The first part that fails raises its error here.

    Args:
        work: does one part. The calls of several threads overlap.
        parts: in any order.
        threads: the most to use.
    """
    call = _Call(work, parts)
    threads = 1 if one_thread.child else min(threads, len(parts))
    started: list[Future[None]] = []
    if threads > 1:
        for _ in range(threads):
            try:
                started.append(_threads().submit(call.run))
            except RuntimeError:
                # No more threads are available.
                break
    if not started:
        call.run()
    try:
        for future in started:
            future.result()
        # A thread may be at work that no future stands for: one that could not start leaves what it was to run behind,
        # and another takes it up.
        call.wait()
    except BaseException as error:
        # Threads stop after their part.
        call.errors[len(parts)] = error
        raise
    if call.errors:
        raise call.errors[min(call.errors)]


class _Call:
    """The parts of one call: those left, the number at work, and the errors of those that failed."""

    def __init__(self, work: Callable[[slice], None], parts: Sequence[slice]) -> None:
        self._work = work
        self._left = deque(enumerate(parts))
        self._at_work = 0
        self._changed = threading.Condition()
        self._inference = torch.is_inference_mode_enabled()
        self.errors: dict[int, BaseException] = {}

    def run(self) -> None:
        """Does parts until none is left or one has failed."""
        with (
            torch.inference_mode(self._inference),
            neutral(torch.device("cpu"), recorded=False),
        ):
            while self._one():
                pass

    def wait(self) -> None:
        """Returns when no thread is at work."""
        with self._changed:
            self._changed.wait_for(lambda: self._at_work == 0)

    def _one(self) -> bool:
        """Does a part, if one is to be done."""
        with self._changed:
            if self.errors or not self._left:
                return False
            index, part = self._left.popleft()
            self._at_work += 1
        try:
            self._work(part)
        except BaseException as error:  # (It is raised again by `side_by_side`.)
            self.errors[index] = error
        finally:
            with self._changed:
                self._at_work -= 1
                self._changed.notify_all()
        return True


def _threads() -> ThreadPoolExecutor:
    """The threads of this process; they are started where they are needed first."""
    global _pool
    if _pool is None:
        with _beginning:
            if _pool is None:
                _pool = ThreadPoolExecutor(_MOST, "mipoison", initializer=_compute_alone)
    return _pool


def _compute_alone() -> None:
    """Lets torch use no other thread for the operations of this one.

    Threads that begin later take the number that any thread has set last, so another one sets the usual number again at
    once. A thread of the caller's that begins in these microseconds keeps the number one.
    """
    with _beginning:
        usual, alone = torch.get_num_threads(), threading.Event()

        def restore() -> None:
            alone.wait()
            torch.set_num_threads(usual)

        # Without a thread to restore the number it stays as it is, which costs time alone.
        with contextlib.suppress(RuntimeError):
            other = threading.Thread(target=restore)
            other.start()
            torch.set_num_threads(1)
            alone.set()
            other.join()


def _in_child() -> None:
    """A forked child has none of its parent's threads, one of which may have held the lock."""
    global _pool, _beginning
    _pool, _beginning = None, threading.Lock()


os.register_at_fork(after_in_child=_in_child)
