"""Parts of a call beside each other, each computed by a thread of its own that uses no other.

Torch's threads wait busily for their next operation, and so keep the kernels' threads from a core. A batch of 256 rows
of 1000 classes took as long on two threads as on one. Here every thread does all operations of a part by itself.
"""

from __future__ import annotations

import os
import threading
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


def side_by_side(work: Callable[[slice], None], parts: Sequence[slice]) -> None:
    """Does the work of every part of a call, on as many threads as torch takes for the calling one.

    Autograd records nothing, and floating point is `neutral`. The first part that fails raises its error here.

    Args:
        work: does one part. The calls of several threads overlap.
        parts: in any order.
    """
    left = iter(tuple(enumerate(parts)))
    errors: dict[int, BaseException] = {}
    inference = torch.is_inference_mode_enabled()

    def run() -> None:
        with torch.inference_mode(inference), neutral(torch.device("cpu"), recorded=False):
            for index, part in left:
                try:
                    work(part)
                except BaseException as error:  # (It is raised again below.)
                    errors[index] = error
                    return
                if errors:
                    return

    threads = 1 if one_thread.child else min(torch.get_num_threads(), len(parts))
    started: list[Future[None]] = []
    if threads > 1:
        for _ in range(threads):
            try:
                started.append(_threads().submit(run))
            except RuntimeError:
                # No more threads are available.
                break
    if not started:
        run()
    for future in started:
        future.result()
    if errors:
        raise errors[min(errors)]


def _threads() -> ThreadPoolExecutor:
    """The threads of this process; they are started where they are needed first."""
    global _pool
    if _pool is None:
        with _beginning:
            if _pool is None:
                _pool = ThreadPoolExecutor(_MOST, "mipoison", initializer=_compute_alone)
    return _pool


def _compute_alone() -> None:
    """Lets torch use no other thread for the operations of this one."""
    with _beginning:
        usual = torch.get_num_threads()
        torch.set_num_threads(1)
        # Threads that begin later take the number that any thread has set last.
        other = threading.Thread(target=torch.set_num_threads, args=(usual,))
        other.start()
        other.join()


def _in_child() -> None:
    """A forked child has none of its parent's threads, one of which may have held the lock."""
    global _pool, _beginning
    _pool, _beginning = None, threading.Lock()


os.register_at_fork(after_in_child=_in_child)
