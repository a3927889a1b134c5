"""Short training of narrow networks, for tests of anything but how well a fit does; `--full` trains as users do.

A test of that has the mark `whole_fits`; its module has it where the fit is a fixture that its tests share.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

# Whether training is short, and networks narrow, at present.
active = False
# One epoch in as many is left.
_SHARE = 5
# Most units of a hidden layer.
_WIDTH = 64


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


def install_narrow(*modules: ModuleType) -> None:
    """Replaces `mipoison.nn.initial` in the modules that call it."""
    initial: Callable[..., Any] = modules[0].initial

    @functools.wraps(initial)
    def narrower(inputs: int, width: int, outputs: int, **options: Any) -> Any:
        return initial(inputs, min(width, _WIDTH) if active else width, outputs, **options)

    for module in modules:
        module.initial = narrower  # type: ignore[attr-defined]
