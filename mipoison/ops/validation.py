"""Checks of arguments, made once for each call: shapes, dtypes, ranges, and naming of refused rows."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from mipoison import reference
from mipoison.ops.arrays import as_tensor
from mipoison.ops.numbers import (
    as_choice,
    as_count,
    as_draw,
    as_epsilon,
    as_flag,
    as_grid,
    as_number,
    as_part,
    as_seed,
)
from mipoison.reference.rounding import FARTHEST, SUM_TOLERANCE, finite_rows, near_rows

__all__ = [
    "DTYPES",
    "NORMS",
    "as_choice",
    "as_count",
    "as_draw",
    "as_epsilon",
    "as_flag",
    "as_grid",
    "as_inputs",
    "as_labels",
    "as_number",
    "as_part",
    "as_rows",
    "as_seed",
    "describe_bad_probabilities",
    "name_rows",
    "require_finite",
    "require_near",
    "require_probabilities",
    "require_range",
    "same_rows",
]

NORMS: Final = ("l1", "l2", "linf")
DTYPES: Final = tuple(SUM_TOLERANCE)
_NAMED_ROWS: Final = 5
# Rows whose sums are off by no more are taken for rounded probabilities.
_ROUNDED: Final = 0.1


def as_rows(name: str, value: Any) -> Tensor:
    """A [N, K] floating tensor from a tensor, an array or what `arrays.as_tensor` takes; K ≥ 2.

    Raises:
        TypeError: if it is nothing of the kind, or of another dtype.
        ValueError: if it is not two-dimensional with at least two columns.
    """
    rows = as_tensor(name, value)
    if not isinstance(value, Tensor | np.ndarray) and rows.dtype == torch.int64:
        # A list of integers does not say that integers are meant.
        rows = rows.to(torch.float64)
    if rows.dtype not in DTYPES:
        allowed = ", ".join(str(dtype).removeprefix("torch.") for dtype in DTYPES)
        got = str(rows.dtype).removeprefix("torch.")
        cast = "x.float()" if isinstance(value, Tensor) else "np.asarray(x, 'float32')"
        raise TypeError(f"expected {name} to be one of {allowed}, got {got}; use {cast}")
    if rows.ndim != 2 or rows.shape[1] < 2:
        raise ValueError(
            f"expected {name} of shape [N, K] with K >= 2 classes, got {tuple(rows.shape)}{_mend(rows)}"
        )
    return rows


def _mend(rows: Tensor) -> str:
    """Advice for rows of a wrong shape."""
    if rows.ndim == 1 and len(rows) > 1:
        return "; a single vector goes in as vector[None, :]"
    if rows.ndim == 2 and rows.shape[1] == 1:
        return "; the probability x of one of two classes goes in as torch.cat((1 - x, x), 1)"
    if rows.ndim > 2:
        return (
            "; flatten what is before the classes with x.reshape(-1, x.shape[-1]); where they are the second "
            "dimension, as in a map [N, K, H, W], first x.movedim(1, -1)"
        )
    return ""


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
    labels = as_tensor(name, value).to(like.device)
    if labels.numel() == 0:
        # The dtype of an empty list is arbitrary.
        labels = labels.to(torch.int64)
    if labels.dtype == torch.bool or labels.is_floating_point() or labels.is_complex():
        raise TypeError(
            f"expected {name} to hold integers, got {labels.dtype}; convert them, as with .astype('int64') or .long()"
        )
    if labels.shape != like.shape[:1]:
        raise ValueError(
            f"expected {name} of shape ({like.shape[0]},), one integer a row, got {tuple(labels.shape)}"
        )
    return labels.to(torch.int64)


# Numbers of these dtypes may have more digits than float32 holds.
_WIDE: Final = {torch.float64, torch.int32, torch.int64, torch.uint32, torch.uint64}


def as_inputs(value: Any, rows: Tensor, *, exact: bool = False) -> Tensor:
    """The inputs that produced the rows, float32 [N, ...] on their device, without gradient.

    With `exact` they are float64 where float32 does not hold every number of their dtype.

    Raises:
        TypeError: if it holds no real numbers.
        ValueError: if they are not as many as the rows, of no size, not finite in float32, or beyond 1e15.
    """
    x = as_tensor("inputs", value).detach()
    if x.is_complex():
        raise TypeError(f"expected inputs to hold real numbers, got {x.dtype}; use x.abs()")
    count = len(x) if x.ndim else 0
    if count != len(rows):
        raise ValueError(f"expected as many inputs as outputs, got {count} and {len(rows)}")
    wide = exact and x.dtype in _WIDE
    x = x.to(rows.device, torch.float64 if wide else torch.float32)
    if x[:1].numel() == 0 and count > 0:
        raise ValueError(f"expected inputs of one number each or more, got shape {tuple(x.shape)}")
    # (Squares of larger numbers would overflow.)
    require_near("inputs", x.reshape(count, -1) if count else x.reshape(0, 1))
    return x


def name_rows(rows: Tensor) -> str:
    """Names the rows of a mask [N], such as "rows 3, 17 and 4 more"."""
    index = rows.nonzero().squeeze(-1).tolist()
    named = ", ".join(str(i) for i in index[:_NAMED_ROWS])
    more = f" and {len(index) - _NAMED_ROWS} more" if len(index) > _NAMED_ROWS else ""
    return f"row{'s' if len(index) > 1 else ''} {named}{more}"


def describe_bad_probabilities(name: str, p: Tensor) -> str | None:
    """Describes the first rows that are no probability vectors; None if there are none."""
    bad = ~reference.valid_rows(p)
    if not bool(bad.any()):
        return None
    first = int(bad.nonzero()[0])
    row = p[first].to(torch.float64)
    mend = "logits go through torch.softmax(logits, -1) first"
    if not bool(finite_rows(row.unsqueeze(0))):
        why, mend = "it holds NaN or Inf", "leave such rows out, or defend with on_invalid='label'"
    elif bool((row < 0).any()):
        why = f"its smallest entry is {float(row.min()):.4g}"
    else:
        total = float(row.sum())
        why, whole = f"its sum is {total:.6g}", "p / p.sum(-1, keepdim=True)"
        rounded = abs(total - 1) <= _ROUNDED
        mend = f"rounded rows go in as {whole}" if rounded else f"{mend}, percentages as {whole}"
    return (
        f"expected {name} to be probability vectors (finite, >= 0, sum 1 within "
        f"{SUM_TOLERANCE[p.dtype]:g}), got {name_rows(bad)} otherwise (row {first}: {why}); {mend}"
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
