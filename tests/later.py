"""Parameters that only `--full` tries: what takes long, and is much like what is always tried."""

from __future__ import annotations

from collections.abc import Iterable

import pytest


def later(*values: object) -> list[object]:
    """These values of a parametrized test; a tuple is a value of several parameters."""
    return [
        pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.full)
        for value in values
    ]


def unless(kept: tuple[object, ...], values: Iterable[object]) -> list[object]:
    """All values, those later that are not to be kept."""
    return [value if value in kept else later(value)[0] for value in values]
