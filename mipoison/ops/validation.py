"""The edge where arguments are checked, once: shapes, dtypes, ranges, and the rows that an operation refused."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from mipoison import reference
from mipoison.reference.rounding import FARTHEST, SUM_TOLERANCE, finite_rows, near_rows

NORMS: Final = ("l1", "l2", "linf")
DTYPES: Final = tuple(SUM_TOLERANCE)
_NAMED_ROWS: Final = 5


def as_rows(name: str, value: Any) -> Tensor:
    """A [N, K] floating tensor from a tensor or ndarray; K ≥ 2.

    Raises:
        TypeError: if it is neither, or of another dtype.
        ValueError: if it is not two-dimensional with at least two columns.
    """
    if isinstance(value, np.ndarray):
        if value.dtype not in (np.float16, np.float32, np.float64):
            raise TypeError(
                f"expected {name} to be float16, float32 or float64, got {value.dtype}; "
                f"use {name}.astype('float32')"
            )
        # torch warns of arrays that it could write through but must not: those are copied.
        value = torch.from_numpy(np.require(value, requirements=["C", "W"]))
    if not isinstance(value, Tensor):
        raise TypeError(
            f"expected {name} to be a torch.Tensor or numpy.ndarray, got {type(value).__name__}"
        )
    if value.dtype not in DTYPES:
        allowed = ", ".join(str(dtype).removeprefix("torch.") for dtype in DTYPES)
        raise TypeError(f"expected {name} to be one of {allowed}, got {value.dtype}")
    if value.ndim != 2 or value.shape[1] < 2:
        raise ValueError(
            f"expected {name} of shape [N, K] with K >= 2 classes, got {tuple(value.shape)}; "
            "a single vector goes in as vector[None, :]"
        )
    return value


def same_rows(name: str, value: Any, like: Tensor) -> Tensor:
    """As `as_rows`, of the same shape, dtype and device as another."""
    rows = as_rows(name, value)
    for what in ("shape", "dtype", "device"):
        ours, theirs = getattr(rows, what), getattr(like, what)
        if ours != theirs:
            raise ValueError(f"expected {name} of {what} {theirs}, got {ours}")
    return rows


def as_labels(name: str, value: Any, like: Tensor) -> Tensor:
    """An int64 [N] tensor on the rows' device.

    Raises:
        TypeError: if it does not hold integers.
        ValueError: if its shape is another.
    """
    labels = torch.as_tensor(value, device=like.device)
    if labels.numel() == 0:
        # An empty list has no integers to tell its dtype by.
        labels = labels.to(torch.int64)
    if labels.dtype == torch.bool or labels.is_floating_point() or labels.is_complex():
        raise TypeError(f"expected {name} to hold integers, got {labels.dtype}")
    if labels.shape != like.shape[:1]:
        raise ValueError(f"expected {name} of shape ({like.shape[0]},), got {tuple(labels.shape)}")
    return labels.to(torch.int64)


def as_number(
    name: str, value: Any, low: float, high: float = math.inf, *, open_low: bool = False
) -> float:
    """A float within [low, high], or (low, high] when open_low.

    Raises:
        TypeError: if it is no real number.
        ValueError: if it is outside the range or NaN.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | np.floating | np.integer):
        raise TypeError(f"expected {name} to be a number, got {type(value).__name__}")
    number = float(value)
    if not (low < number or (number == low and not open_low)) or not number <= high:
        bracket = "(" if open_low else "["
        raise ValueError(f"expected {name} in {bracket}{low:g}, {high:g}], got {number:g}")
    return number


def as_count(name: str, value: Any, low: int) -> int:
    """An int of at least low.

    Raises:
        ValueError: if it is no int or smaller.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ValueError(f"expected {name} to be an int >= {low}, got {value!r}")
    return value


def as_epsilon(value: Any) -> float | None:
    """The radius of the ball as the operators take it: None for no ball, which an infinite one is too.

    What is serialised holds None, and not every format knows an infinite number.
    """
    if value is None:
        return None
    radius = as_number("epsilon", value, 0.0)
    return None if math.isinf(radius) else radius


def as_choice(name: str, value: Any, allowed: tuple[str, ...]) -> str:
    """One of the allowed words.

    Raises:
        ValueError: if it is another.
    """
    if value not in allowed:
        raise ValueError(f"expected {name} to be one of {allowed}, got {value!r}")
    return str(value)


def name_rows(rows: Tensor) -> str:
    """Names the rows of a mask [N], such as "rows 3, 17 and 4 more"."""
    index = rows.nonzero().squeeze(-1).tolist()
    named = ", ".join(str(i) for i in index[:_NAMED_ROWS])
    more = f" and {len(index) - _NAMED_ROWS} more" if len(index) > _NAMED_ROWS else ""
    return f"row{'s' if len(index) > 1 else ''} {named}{more}"


def describe_bad_probabilities(name: str, p: Tensor) -> str | None:
    """What is wrong with the first rows that are no probability vectors; None if all are."""
    bad = ~reference.valid_rows(p)
    if not bool(bad.any()):
        return None
    first = int(bad.nonzero()[0])
    row = p[first].to(torch.float64)
    if not bool(finite_rows(row.unsqueeze(0))):
        why = "it holds NaN or Inf"
    elif bool((row < 0).any()):
        why = f"its smallest entry is {float(row.min()):.4g}"
    else:
        why = f"its sum is {float(row.sum()):.6g}"
    return (
        f"expected {name} to be probability vectors (finite, >= 0, sum 1 within "
        f"{SUM_TOLERANCE[p.dtype]:g}), got {name_rows(bad)} otherwise (row {first}: {why}); "
        "logits go through torch.softmax(logits, -1) first"
    )


def require_probabilities(name: str, p: Tensor) -> None:
    """Raises ValueError naming the first rows that are no probability vectors."""
    problem = describe_bad_probabilities(name, p)
    if problem is not None:
        raise ValueError(problem)


def require_finite(name: str, x: Tensor) -> None:
    """Raises ValueError naming the first rows that hold NaN, Inf or numbers beyond 1e200."""
    bad = ~finite_rows(x)
    if bool(bad.any()):
        raise ValueError(f"expected {name} to be finite, got NaN or Inf in {name_rows(bad)}")


def require_near(name: str, z: Tensor) -> None:
    """Raises ValueError naming the first rows that cannot be projected: not finite, or beyond 1e15."""
    require_finite(name, z)
    bad = ~near_rows(z)
    if bool(bad.any()):
        raise ValueError(
            f"expected {name} within {FARTHEST:g} of zero, got larger entries in {name_rows(bad)}; scale them down"
        )


def require_range(name: str, labels: Tensor, low: int, k: int) -> None:
    """Raises ValueError naming the first labels outside [low, K)."""
    bad = (labels < low) | (labels >= k)
    if bool(bad.any()):
        raise ValueError(
            f"expected {name} in [{low}, {k}), got {int(labels[bad][0])} in {name_rows(bad)}"
        )
