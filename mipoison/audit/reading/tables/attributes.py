"""Make inputs of the attributes of people: numbers standardized, categories one input a value."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow.types as kinds

from mipoison.audit.evidence import Column
from mipoison.audit.reading.checks import require_inputs
from mipoison.audit.reading.found import Array, listed, named
from mipoison.audit.reading.tables.columns import is_text, numbers

# With more, a text is a name or a number with a stray sign, and no category.
MOST_CATEGORIES: Final = 256
_NUMBER: Final = re.compile(r"\s*[-+]?(\d[\d_,]*\.?\d*|\.\d+)([eE][-+]?\d+)?\s*")


def encoded(
    called: str, table: Any, categorical: Sequence[str], names: Sequence[str], notes: list[str]
) -> tuple[Array, tuple[Column, ...]]:
    """Attributes as inputs, float32 [N, D], and where each stands; see `Column`. Constant ones are left out.

    Raises:
        ValueError: for infinite numbers, texts that are nearly all different, or no attribute that differs.
    """
    parts: list[Array] = []
    columns: list[Column] = []
    constant: list[str] = []
    two: list[str] = []
    first = 0
    for name in table.column_names:
        column = table.column(name)
        if name in categorical or is_text(column.type):
            if name not in categorical:
                _require_words(called, name, column)
            part, made = _category(called, name, column, first)
        else:
            part, made = _number(called, name, column, first, names, notes)
        if part is None:
            constant.append(name)
            continue
        if not made.categories and len(np.unique(part)) == 2:
            two.append(name)
        parts.append(part)
        columns.append(made)
        first += made.width
    if two:
        notes.append(
            f"columns of two numbers were taken as numbers: {listed(two)}; --categorical names those that are codes"
        )
    if constant:
        notes.append(f"columns with the same value in every row were left out: {listed(constant)}")
    if not parts:
        raise ValueError(
            f"{called}: expected inputs that differ, got the same in every row; there is nothing to reconstruct"
        )
    inputs = np.concatenate(parts, 1)
    require_inputs(called, inputs, names)
    return inputs, tuple(columns)


def _require_words(called: str, name: str, column: Any) -> None:
    """Raises ValueError for a column of numbers that a stray text, or how it was saved, made one of texts."""
    values = {value for value in column.unique().to_pylist() if isinstance(value, str)}
    words = sorted(value for value in values if not _NUMBER.fullmatch(value))
    if 2 * len(words) < len(values):
        some = f"texts among numbers, such as {listed(words[:3])}" if words else "numbers as text"
        raise ValueError(
            f"{called}: expected column {name} of numbers or of words, got {some}; --missing names texts that stand "
            f"for no value, and --categorical {name} takes all of them for categories"
        )


def _category(called: str, name: str, column: Any, first: int) -> tuple[Array | None, Column]:
    values = column.to_pylist()
    kept = sorted(set(values))
    if len(kept) > min(MOST_CATEGORIES, len(values) // 2):
        raise ValueError(
            f"{called}: expected at most {min(MOST_CATEGORIES, len(values) // 2)} different values in the categorical "
            f"column {name}, got {len(kept)}, such as {listed(map(str, kept[:3]))}; leave it out with --leave-out "
            f"{name}, or mend it if it is a number (--missing names texts that stand for no value)"
        )
    place = {value: i for i, value in enumerate(kept)}
    made = Column(name, tuple(_said(value) for value in kept), first)
    if len(kept) < 2:
        return None, made
    hot = np.eye(len(kept), dtype=np.float32)[[place[value] for value in values]]
    return hot, made


def _said(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _number(
    called: str, name: str, column: Any, first: int, names: Sequence[str], notes: list[str]
) -> tuple[Array | None, Column]:
    given = numbers(column)
    values = given.astype(np.float64)
    bad = ~np.isfinite(values)
    if bad.any():
        raise ValueError(
            f"{called}: expected finite numbers in column {name}, got infinite ones in {named(bad, names)}; leave "
            "these rows out"
        )
    # (Compared before whole numbers that are large become equal in float64.)
    if bool((given == given[0]).all()):
        return None, Column(name, (), first)
    with np.errstate(over="ignore", invalid="ignore"):
        mean, scale = float(values.mean()), float(values.std())
    if not (np.isfinite(mean) and np.isfinite(scale) and scale >= np.finfo(np.float32).tiny):
        raise ValueError(
            f"{called}: expected numbers in column {name} whose spread float64 holds, got {values.min():.4g} to "
            f"{values.max():.4g}; scale them or take their mean off before, or leave them out with --leave-out {name}"
        )
    steps = np.diff(values)
    if kinds.is_integer(column.type) and bool(
        (np.abs(steps) >= 1).all() and (np.sign(steps) == np.sign(steps[0])).all()
    ):
        notes.append(
            f"column {name} rises or falls from row to row, as a running number does; if it is one, leave it out with "
            f"--leave-out {name}"
        )
    standard = ((values - mean) / scale).astype(np.float32)[:, None]
    return standard, Column(name, (), first, mean, scale)
