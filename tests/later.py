"""Parameters that only `--full` tries: what takes long, and is much like what is always tried."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import TypeVar

import pytest

Value = TypeVar("Value")

# Whether they are tried; set before any test is collected. (Thousands that are left out take seconds to collect.)
full = False


def fewer(few: Value, every: Value) -> Value:
    """A size of a test: every with `--full`, else few."""
    return every if full else few


def later(*values: object) -> list[object]:
    """These values of a parametrized test with `--full`, else none; a tuple is a value of several parameters."""
    return [
        pytest.param(*(value if isinstance(value, tuple) else (value,)))
        for value in (values if full else ())
    ]


def unless(kept: Container[object], values: Iterable[object]) -> list[object]:
    """All values with `--full`, else those that are to be kept."""
    return [value for value in values if full or value in kept]
