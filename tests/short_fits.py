"""Short training, for tests of anything but how well a fit does; `--full` trains as users do.

A test of that has the mark `whole_fits`; its module has it where the fit is a fixture that its tests share.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

# Whether training is short at present.
active = False
# One epoch in as many is left.
_SHARE = 5


@contextmanager
def chosen(short: bool) -> Iterator[None]:
    """Trains shortly, or not, meanwhile."""
    global active
    before, active = active, short
    try:
        yield
    finally:
        active = before


def install(name: str, *modules: ModuleType) -> None:
    """Replaces the training function of this name in the modules that call it."""
    train: Callable[..., Any] = getattr(modules[0], name)

    @functools.wraps(train)
    def shorter(*args: Any, epochs: int, **options: Any) -> Any:
        return train(*args, epochs=-(-epochs // _SHARE) if active else epochs, **options)

    for module in modules:
        setattr(module, name, shorter)
