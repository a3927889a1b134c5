"""Short training, for tests of anything but how well a fit does; `--full` trains as users do.

A test of that has the mark `whole_fits`; its module has it where the fit is a fixture that its tests share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import mipoison.defenses.lpa.game as game
import mipoison.nn as nn

# One epoch in as many is left.
_SHARE = 5


class ShortFits:
    """Stands in place of `mipoison.nn.train` wherever it is called from."""

    def __init__(self, train: Callable[..., Any]) -> None:
        self._train = train
        self.active = False

    def __call__(self, *args: Any, epochs: int, **options: Any) -> Any:
        if self.active:
            epochs = -(-epochs // _SHARE)
        return self._train(*args, epochs=epochs, **options)

    @contextmanager
    def chosen(self, active: bool) -> Iterator[None]:
        before, self.active = self.active, active
        yield
        self.active = before


def install() -> ShortFits:
    """Replaces the training; inactive at first."""
    short = ShortFits(nn.train)
    for module in (nn, game):
        module.train = short  # type: ignore[attr-defined]
    return short
