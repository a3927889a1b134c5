"""Spread an experiment's cells over processes or machines, and end them in order with a signal."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from types import FrameType
from typing import Final

from joblib import parallel_config
from joblib.externals.loky import get_reusable_executor

# Joblib's own, or a backend of joblib.
ENGINES: Final = ("loky", "ray", "dask")


@contextmanager
def engine_of(name: str) -> Iterator[None]:
    """Joblib's backend for the block.

    Args:
        name: one of `ENGINES`; "ray" and "dask" use a cluster that is there, or start a local one.

    Raises:
        ValueError: if it is unknown or not installed.
    """
    if name not in ENGINES:
        raise ValueError(f"engine: expected one of {', '.join(ENGINES)}, got {name!r}")
    try:
        if name == "loky":
            # Joblib keeps idle processes, and they keep their folder and the modules that they have read.
            get_reusable_executor().shutdown(wait=True)
        elif name == "ray":
            from ray.util.joblib import register_ray

            register_ray()
        elif name == "dask":
            from distributed import Client, get_client
    except ImportError as error:
        package = {"ray": "ray", "dask": "dask[distributed]"}[name]
        raise ValueError(
            f"engine: expected {package} to be installed for {name!r}; pip install '{package}'"
        ) from error
    with ExitStack() as stack:
        if name == "dask":
            try:
                get_client()
            except ValueError:
                stack.enter_context(Client())
        stack.enter_context(parallel_config(backend=name))
        yield


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
        """Ends what is under way by KeyboardInterrupt; a second signal ends the process at once."""
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
