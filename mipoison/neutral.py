"""Compute the same bits whatever the caller's process is set to.

An answer is a function of key and row. Switches of the process that would change it are put to their usual place
while it is computed, and back afterwards.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, TypeVar, cast

import torch
from torch import Tensor

from mipoison import cpu

_Fit = TypeVar("_Fit", bound=Callable[..., Any])

# Where matrix products of float32 may be computed in fewer bits, and what stands for all of them.
_SWITCHES: Final[tuple[Any, ...]] = (
    torch.backends.mkldnn.matmul,  # type: ignore[attr-defined]
    torch.backends.cuda.matmul,
)
_FULL: Final = ("none", "ieee")


class _Precision:
    """The precision of float32 matrix products, which all threads of a process share.

    The first thread that computes sets it, the last one puts it back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before: dict[int, str] = {}

    def enter(self) -> None:
        """Sets full precision until as many have left as have entered."""
        with self._lock:
            if self._inside == 0:
                self._before = {
                    i: switch.fp32_precision
                    for i, switch in enumerate(_SWITCHES)
                    if switch.fp32_precision not in _FULL
                }
                for i in self._before:
                    _SWITCHES[i].fp32_precision = "ieee"
            self._inside += 1

    def leave(self) -> None:
        """Puts the caller's setting back, if this is the last to leave."""
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                for i, before in self._before.items():
                    # "none" follows a setting for all of torch; a switch set by itself needs its own word.
                    _SWITCHES[i].fp32_precision = "none"
                    if _SWITCHES[i].fp32_precision != before:
                        _SWITCHES[i].fp32_precision = before


_precision: Final = _Precision()


class neutral:
    """Full precision, no autocast and the standard floating point, for this thread's computations.

    What else a process can be set to (default dtype and device) changes nothing, since every tensor of this package
    is made with a dtype and a device of its own.

    Args:
        device: of the tensors that are computed with.
    """

    __slots__ = ("_autocast", "_floats")

    def __init__(self, device: torch.device) -> None:
        self._autocast = (
            torch.autocast(device.type, enabled=False)
            if torch.amp.is_autocast_available(device.type)
            and torch.is_autocast_enabled(device.type)
            else None
        )
        self._floats = cpu.StandardFloats()

    def __enter__(self) -> None:
        _precision.enter()
        self._floats.__enter__()
        if self._autocast is not None:
            self._autocast.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._autocast is not None:
            self._autocast.__exit__(kind, error, trace)
        self._floats.__exit__(kind, error, trace)
        _precision.leave()


def neutrally(fit: _Fit) -> _Fit:
    """Makes a fit neutral on the device of the first tensor that it is given."""

    @functools.wraps(fit)
    def fitted(*given: Any, **named: Any) -> Any:
        devices = [x.device for x in (*given, *named.values()) if isinstance(x, Tensor)]
        with neutral(devices[0] if devices else torch.device("cpu")):
            return fit(*given, **named)

    return cast(_Fit, fitted)
