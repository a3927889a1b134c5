"""Take numbers of any library as Python's own, and derive seeds from them.

What is hashed, drawn or written must not depend on a number's type. Target, defense and adversary must not share a
seed: a surrogate that starts from the adversary's own initial weights would flatter the defense.
"""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Iterable
from numbers import Real
from typing import Any

import numpy as np


def whole(name: str, value: Any, *, least: int | None = None) -> int:
    """An int of Python's.

    Args:
        name: for the message.
        value: an int, or one of NumPy's or torch's.
        least: smallest that is taken.

    Raises:
        ValueError: if it is something else, or smaller.

    Example:
        >>> whole("seed", np.int64(3))
        3
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"{name}: expected a whole number, got {value!r}") from None
    if least is not None and number < least:
        raise ValueError(f"{name}: expected at least {least}, got {number}")
    return number


def real(name: str, value: Any) -> float:
    """A float of Python's.

    Raises:
        ValueError: if it is no number.

    Example:
        >>> real("temperature", np.float32(0.5))
        0.5
    """
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        raise ValueError(f"{name}: expected a number, got {value!r}")
    return float(value)


def several(name: str, values: Any) -> tuple[Any, ...]:
    """A tuple, of any sequence or array but a text.

    Raises:
        ValueError: if it is a text, or a single value.

    Example:
        >>> several("seeds", range(3))
        (0, 1, 2)
    """
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise ValueError(
            f"{name}: expected several in a tuple, got {values!r}; write ({values!r},)"
        )
    return tuple(values)


def derive_seed(seed: int, *purpose: str) -> int:
    """Hashes an experiment's seed and a purpose to an independent 63-bit seed.

    Args:
        seed: the experiment's seed.
        purpose: what the stream is for, e.g. ``"target"``.

    Returns:
        An integer in [0, 2^63), the same on every machine.

    Example:
        >>> derive_seed(0, "target") == derive_seed(0, "adversary")
        False
    """
    digest = hashlib.blake2b(repr((whole("seed", seed), *purpose)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
