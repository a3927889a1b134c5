"""Checks of arguments that are numbers or choices."""

from __future__ import annotations

import math
from typing import Any, Final, TypeVar

import numpy as np
from torch import Tensor

Kind = TypeVar("Kind")

# The largest seed that torch.Generator accepts, less room for the seeds that are derived by adding a small number.
_SEEDS: Final = 2**63
# A smaller cell's number would not fit into what the backends count with.
_FINEST: Final = 1e-9


def scalar(value: Any) -> Any:
    """Converts a NumPy number, or an array or tensor without dimensions, to a Python number."""
    if isinstance(value, int | float | str):
        # (The common case, and the only one that compiled calls reach.)
        return value
    if isinstance(value, np.generic | np.ndarray | Tensor) and value.ndim == 0:
        return value.item()
    return value


def as_number(
    name: str, value: Any, low: float, high: float = math.inf, *, open_low: bool = False
) -> float:
    """A float within [low, high], or (low, high] when open_low.

    Raises:
        TypeError: if it is no real number.
        ValueError: if it is outside the range or NaN.
    """
    given = scalar(value)
    # (NumPy's extended precision has no number of Python's.)
    if isinstance(given, bool) or not isinstance(given, int | float | np.floating):
        raise TypeError(f"expected {name} to be a number, got {type(value).__name__}")
    try:
        number = float(given)
    except OverflowError:
        number = math.inf if given > 0 else -math.inf
    if not (low < number or (number == low and not open_low)) or not number <= high:
        bracket = "(" if open_low else "["
        raise ValueError(f"expected {name} in {bracket}{low:g}, {high:g}], got {number:g}")
    return number


def as_grid(value: Any) -> float:
    """A cell width of `row_bits`: 0, or one whose cells every backend can number.

    Raises:
        TypeError: if it is no real number.
        ValueError: if it is neither 0 nor in [1e-9, 1].
    """
    grid = as_number("grid", value, 0.0, 1.0)
    if 0 < grid < _FINEST:
        raise ValueError(f"expected grid to be 0 or in [{_FINEST:g}, 1], got {grid:g}")
    return grid


def as_count(name: str, value: Any, low: int) -> int:
    """An int of at least low.

    Raises:
        ValueError: if it is no int or smaller.
    """
    given = scalar(value)
    if isinstance(given, bool) or not isinstance(given, int) or given < low:
        raise ValueError(f"expected {name} to be an int >= {low}, got {value!r}")
    return given


def as_seed(value: Any) -> int:
    """A seed of training.

    Raises:
        ValueError: if it is no int of 64 bits.
    """
    given = scalar(value)
    if isinstance(given, bool) or not isinstance(given, int) or not -_SEEDS <= given < _SEEDS:
        raise ValueError(f"expected seed to be an int in [-2**63, 2**63), got {value!r}")
    return given


def as_draw(value: Any) -> int:
    """The index of a block of keyed words.

    Raises:
        ValueError: if it is no int of 32 bits.
    """
    given = scalar(value)
    if isinstance(given, bool) or not isinstance(given, int) or not 0 <= given < 2**32:
        raise ValueError(f"expected draw to be an int in [0, 2**32), got {value!r}")
    return given


def as_flag(name: str, value: Any) -> bool:
    """True or False.

    Raises:
        TypeError: if it is neither; a text such as "no" would count as true.
    """
    given = scalar(value)
    if not isinstance(given, int) or given not in (0, 1):
        raise TypeError(f"expected {name} to be True or False, got {value!r}")
    return bool(given)


def as_epsilon(value: Any) -> float | None:
    """The radius of the ball for the operators: None for no ball, also where it is infinite.

    What is serialised holds None, and not every format knows an infinite number.
    """
    if value is None:
        return None
    radius = as_number("epsilon", value, 0.0)
    return None if math.isinf(radius) else radius


def as_choice(name: str, value: Any, allowed: tuple[str, ...]) -> str:
    """One of the allowed strings.

    Raises:
        ValueError: if it is another.
    """
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"expected {name} to be one of {allowed}, got {value!r}")
    return str(value)


def as_part(name: str, value: Any, kind: type[Kind], source: str) -> Kind:
    """An object of a kind.

    Args:
        name: of the argument.
        value: what was given.
        kind: its class.
        source: how to get one, for the error.

    Raises:
        TypeError: if it is another.
    """
    if not isinstance(value, kind):
        got = f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
        raise TypeError(
            f"expected {name} to be a mipoison {kind.__name__}, got {got}; {source} makes one"
        )
    return value
