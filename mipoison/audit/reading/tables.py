"""Read inputs from a CSV or Parquet: people with numeric and categorical columns, or embeddings in a list column."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.types as kinds

from mipoison.audit.evidence import Column, Skipped
from mipoison.audit.reading.columns import (
    PREFIX,
    class_names,
    is_list,
    is_number,
    matrix,
    missing_in,
    numbers,
    read_table,
    vector_columns,
)
from mipoison.audit.reading.found import Array, Found, listed, named, require_known, row_names
from mipoison.audit.reading.options import Options
from mipoison.audit.reading.vectors import Vectors, vectors_of

_BATCH: Final = 1024
# With more, a text is a name or a number with a stray sign, and no category.
MOST_CATEGORIES: Final = 256
# What pandas calls the index of a data frame in files.
_INDEX: Final = re.compile(r"|Unnamed: 0|__index_level_\d+__")
_NUMBER: Final = re.compile(r"\s*[-+]?(\d[\d_,]*\.?\d*|\.\d+)([eE][-+]?\d+)?\s*")


def read_people(file: Path, options: Options) -> Found:
    """What a table has.

    A table with a column of lists that is none of the vectors has embeddings, and its other columns are not looked at.
    Otherwise all columns are attributes but those of the vectors, the group, and those that are left out.

    Raises:
        ValueError: for columns that are not there, of a kind that is no attribute, or with infinite numbers.
    """
    notes: list[str] = []
    table, keep, count = read_table(file, options.missing, notes)
    known = table.column_names
    for option in ("categorical", "leave_out"):
        require_known(option, getattr(options, option), known, file.name)
    if options.group is not None:
        require_known("group", [options.group], known, file.name)
    own, columns = _vectors(file, table, options)
    attributes = _attributes(file, table, columns, options, notes)
    needed = [*attributes, *columns, *([options.group] if options.group else [])]
    rows = row_names(table.num_rows, keep)
    whole, skipped = _complete(table, needed, rows)
    outputs = None
    if own is not None:
        outputs = own.of(count, "rows", keep)[whole]
    table = table.filter(pa.array(whole))
    names = [rows[i] for i in np.flatnonzero(whole)]
    if columns and table.num_rows:
        outputs = matrix(file, table, columns)
    embedded = len(attributes) == 1 and is_list(table.schema.field(attributes[0]).type)
    inputs = matrix(file, table, attributes) if embedded else table.select(attributes)
    others = table.drop_columns(columns)

    def batches() -> Iterator[Any]:
        for first in range(0, table.num_rows, _BATCH):
            part = slice(first, first + _BATCH)
            yield inputs[part] if embedded else _frame(others.slice(first, _BATCH))

    return Found(
        "embeddings" if embedded else "table",
        inputs,
        names,
        batches,
        outputs=outputs,
        groups=None if options.group is None else _texts(table.column(options.group)),
        classes=own.classes if own is not None else class_names(columns, options.vectors_prefix),
        called=f"{file.name}: {attributes[0]}" if embedded else file.name,
        vectors_called=own.called if own is not None else f"{file.name}: {listed(columns)}",
        logits=(own is not None and own.logits) or columns == ["logits"],
        skipped=skipped,
        notes=notes,
    )


def _vectors(file: Path, table: Any, options: Options) -> tuple[Vectors | None, list[str]]:
    """Vectors of a file of their own, or the columns that hold them; neither where a model answers."""
    if options.model is None and options.vectors is None:
        return None, vector_columns(table, file, options)
    return None if options.vectors is None else vectors_of(options), []


def _attributes(
    file: Path, table: Any, vectors: Sequence[str], options: Options, notes: list[str]
) -> list[str]:
    """The columns of the inputs; vectors are none, whatever is used for vectors."""
    out = {*vectors, *options.leave_out, options.group}
    said = options.vectors_name is not None or options.vectors_prefix is not None
    if said and options.model is not None:
        out |= set(vector_columns(table, file, options))
    names = [name for name in table.column_names if name not in out]
    if index := [name for name in names if _INDEX.fullmatch(name)]:
        notes.append(f"the numbers of the rows were left out: column {listed(map(repr, index))}")
        names = [name for name in names if name not in index]
    if len(odd := [name for name in names if name.startswith(PREFIX)]) > 1 and not vectors:
        notes.append(
            f"columns {listed(odd)} were taken for attributes; if they are vectors, leave them out with --leave-out"
        )
    lists = [name for name in names if is_list(table.schema.field(name).type)]
    if options.inputs_name is not None:
        require_known("inputs_name", [options.inputs_name], table.column_names, file.name)
        lists = [options.inputs_name]
    if len(lists) > 1:
        raise ValueError(
            f"inputs_name: expected one column of lists in {file.name} beside the vectors, got {listed(lists)}; name "
            "the "
            "embeddings with --inputs-name"
        )
    if lists:
        if others := [name for name in names if name not in lists]:
            notes.append(f"columns beside the embeddings were not looked at: {listed(others)}")
        return lists
    if not names:
        raise ValueError(
            f"{file.name}: expected columns beside the vectors, got none; an audit needs the inputs, too"
        )
    for name in names:
        kind = table.schema.field(name).type
        if not (is_number(kind) or _is_text(kind) or kinds.is_null(kind)):
            raise ValueError(
                f"{file.name}: expected column {name} of numbers, text or truth values, got {kind}; leave it out with "
                f"--leave-out {name}, or save it as a number"
            )
    return names


def _is_text(kind: Any) -> bool:
    plain = kind.value_type if kinds.is_dictionary(kind) else kind
    texts = kinds.is_string(plain) or kinds.is_large_string(plain) or kinds.is_string_view(plain)
    return bool(
        texts or kinds.is_boolean(plain) or (kinds.is_dictionary(kind) and is_number(plain))
    )


def _complete(
    table: Any, needed: Sequence[str], rows: Sequence[str]
) -> tuple[npt.NDArray[np.bool_], list[Skipped]]:
    """Rows without missing values, and the others with what they lack."""
    lacking = np.stack([missing_in(table.column(name)) for name in needed])
    whole: npt.NDArray[np.bool_] = np.logical_not(lacking.any(0))
    skipped = [
        Skipped(
            row, f"{listed(name for name, gap in zip(needed, gaps, strict=True) if gap)} missing"
        )
        for row, gaps in zip(rows, lacking.T, strict=True)
        if gaps.any()
    ]
    return whole, skipped


def _texts(column: Any) -> Array:
    return np.array([str(value) for value in column.to_pylist()])


def _frame(part: Any) -> Any:
    try:
        return part.to_pandas()
    except ImportError as error:
        raise ValueError(
            "model: expected pandas, in whose data frames a model gets the rows of a table, found none; pip install "
            "pandas"
        ) from error


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
        if name in categorical or _is_text(column.type):
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
    return np.concatenate(parts, 1), tuple(columns)


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
    values = numbers(column).astype(np.float64)
    bad = ~np.isfinite(values)
    if bad.any():
        raise ValueError(
            f"{called}: expected finite numbers in column {name}, got infinite ones in {named(bad, names)}; leave "
            "these "
            "rows out"
        )
    mean, scale = float(values.mean()), float(values.std())
    if bool((values == values[0]).all()):
        return None, Column(name, (), first)
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
