"""Compute the same bits under any settings of the caller's process.

An answer is a function of key and row. Settings of the process that would change it are set to their defaults while it
is computed, and restored afterwards.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Final, TypeVar, cast

import torch
from torch import Tensor

from mipoison import cpu
from mipoison.forked import one_thread

_Fit = TypeVar("_Fit", bound=Callable[..., Any])

# Settings that let float32 matrix products be computed in fewer bits, `fp32_precision` of
# `torch.backends.mkldnn.matmul` and `torch.backends.cuda.matmul`, and their values for full precision. (Through these
# objects reading one takes several times as long.)
_SWITCHES: Final = (("mkldnn", "matmul"), ("cuda", "matmul"))
_FULL: Final = ("none", "ieee")


def _precision_of(switch: tuple[str, str]) -> str:
    return torch._C._get_fp32_precision_getter(*switch)


def _set_precision(switch: tuple[str, str], precision: str) -> None:
    torch._C._set_fp32_precision_setter(*switch, precision)


class _Precision:
    """The precision of float32 matrix products, which all threads of a process share.

    The first thread to enter sets it, and the last to leave restores it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before: dict[tuple[str, str], str] = {}

    def enter(self) -> None:
        """Sets full precision until every thread that entered has left."""
        with self._lock:
            if self._inside == 0:
                for switch in _SWITCHES:
                    before = _precision_of(switch)
                    if before not in _FULL:
                        self._before[switch] = before
                        _set_precision(switch, "ieee")
            self._inside += 1

    def leave(self) -> None:
        """Restores the caller's setting if this is the last thread to leave."""
        with self._lock:
            # (A forked child may leave what its parent entered.)
            self._inside = max(0, self._inside - 1)
            if self._inside == 0:
                self._put_back()

    def begin_anew(self) -> None:
        """Resets the state in a forked child: its parent's threads do not exist there, and one may hold the lock."""
        self._lock = threading.Lock()
        if self._inside > 0:
            self._inside = 0
            self._put_back()

    def _put_back(self) -> None:
        for switch, before in self._before.items():
            # "none" follows the setting for all of torch; a setting that was made separately is restored as such.
            _set_precision(switch, "none")
            if _precision_of(switch) != before:
                _set_precision(switch, before)
        self._before = {}


_precision: Final = _Precision()
os.register_at_fork(after_in_child=_precision.begin_anew)


class neutral:
    """A region with full precision, no autocast and standard floating point for this thread's computations.

    In a forked child torch computes on one thread there.

    The default dtype and device change nothing, since this package gives every tensor an explicit dtype and device.

    Args:
        device: of the tensors that are computed with.
        recorded: whether torch may record the computations for a gradient, as outside; else it does not, as under
            `torch.no_grad`.
    """

    __slots__ = ("_autocast", "_floats", "_paused", "_recorded")

    def __init__(self, device: torch.device, *, recorded: bool = True) -> None:
        kind = device.type
        self._autocast = (
            torch.autocast(kind, enabled=False)
            if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
            else None
        )
        self._floats = cpu.StandardFloats()
        self._recorded = recorded

    def __enter__(self) -> None:
        one_thread.__enter__()
        _precision.enter()
        self._floats.__enter__()
        if self._autocast is not None:
            self._autocast.__enter__()
        # (What `torch.no_grad` does, in a third of its time.)
        self._paused = not self._recorded and torch.is_grad_enabled()
        if self._paused:
            torch._C._set_grad_enabled(False)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._paused:
            torch._C._set_grad_enabled(True)
        if self._autocast is not None:
            self._autocast.__exit__(kind, error, trace)
        self._floats.__exit__(kind, error, trace)
        _precision.leave()
        one_thread.__exit__()


@contextlib.contextmanager
def plain_graph() -> Iterator[None]:
    """A region whose graphs keep tensors as they are, whatever hooks the caller has set for saved ones."""
    with contextlib.ExitStack() as stack:
        # (Where torch refuses hooks, none are set.)
        with contextlib.suppress(RuntimeError):
            stack.enter_context(torch.autograd.graph.saved_tensors_hooks(_kept, _same))
        yield


def _kept(saved: Tensor) -> Tensor:
    # Another tensor over the same memory: one that holds its graph, which holds it, would never be freed.
    return saved.detach()


def _same(saved: Tensor) -> Tensor:
    return saved


def neutrally(fit: _Fit) -> _Fit:
    """Runs a fit in a `neutral` region for the device of the first tensor among its arguments."""

    @functools.wraps(fit)
    def fitted(*given: Any, **named: Any) -> Any:
        devices = [x.device for x in (*given, *named.values()) if isinstance(x, Tensor)]
        with neutral(devices[0] if devices else torch.device("cpu")), plain_graph():
            return fit(*given, **named)

    return cast(_Fit, fitted)
