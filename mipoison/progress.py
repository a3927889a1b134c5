"""Progress reports of a fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

# Called with the share that is done, in (0, 1].
Report: TypeAlias = Callable[[float], None]


def as_report(progress: Report | None) -> Report | None:
    """Checks the function that is called with the share done.

    Raises:
        TypeError: if it cannot be called.
    """
    if progress is not None and not callable(progress):
        raise TypeError(
            f"expected progress to be a function of the share done, got {type(progress).__name__}"
        )
    return progress


class Progress:
    """Reports the share of one part of the work as a share of the whole.

    Args:
        report: called with the share done; None: nothing is called.
        low: share of the whole that is done when the part begins.
        high: share of the whole that is done when it ends.

    Example:
        >>> second = Progress(print).part(0.5, 1.0)
        >>> second(0.5)
        0.75
    """

    def __init__(self, report: Report | None, low: float = 0.0, high: float = 1.0) -> None:
        self._report = report
        self._low = low
        self._high = high

    def part(self, low: float, high: float) -> Progress:
        """A part of this one, from one of its shares to another."""
        width = self._high - self._low
        return Progress(self._report, self._low + low * width, self._low + high * width)

    def __call__(self, share: float) -> None:
        """Reports the share of this part that is done."""
        if self._report is not None:
            self._report(self._low + share * (self._high - self._low))
