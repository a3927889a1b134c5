"""Find the vectors among the columns of a table, and make arrays of columns."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as kinds

from mipoison.audit.reading.found import Array, listed, require_known
from mipoison.audit.reading.options import FILES, VECTORS, Options
from mipoison.audit.reading.tables.files import is_number, read_table
from mipoison.audit.reading.vectors import COUNTED, Vectors, require_groups
from mipoison.integrations.arrow.columns import rows_of, stored

# What pandas calls the index of a data frame in files.
INDEX: Final = re.compile(r"|Unnamed: 0|__index_level_\d+__")
# The name of a class's column begins so, where no option says otherwise.
PREFIX: Final = "p_"


def is_list(kind: Any) -> bool:
    """Whether each row has a list of numbers."""
    kind = stored(kind)
    lists = kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind)
    return lists and is_number(kind.value_type)


def is_text(kind: Any) -> bool:
    """Whether each row has a text, a truth value or a code of a category."""
    plain = kind.value_type if kinds.is_dictionary(kind) else kind
    texts = kinds.is_string(plain) or kinds.is_large_string(plain) or kinds.is_string_view(plain)
    return bool(
        texts or kinds.is_boolean(plain) or (kinds.is_dictionary(kind) and is_number(plain))
    )


def vector_columns(table: Any, file: Path, options: Options) -> list[str]:
    """The columns that hold the vectors: one of lists, or one a class.

    Raises:
        ValueError: if there are none; the columns that there are are named.
    """
    names = table.column_names
    if options.vectors_name is not None:
        require_known("vectors_name", [options.vectors_name], names, file.name)
        return [options.vectors_name]
    prefix = options.vectors_prefix
    found = [name for name in names if name.startswith(PREFIX if prefix is None else prefix)]
    if prefix is not None and not found:
        raise ValueError(
            f"vectors_prefix: expected columns of {file.name} that begin with {prefix}, got {listed(names)}"
        )
    if prefix is not None or len(found) > 1:
        return found
    lists = [name for name in VECTORS if name in names and is_list(table.schema.field(name).type)]
    if not lists:
        raise ValueError(
            f"vectors: expected the vectors of {file.name}, got columns {listed(names)}; say which they are with "
            "--vectors-prefix or --vectors-name, name their file with --vectors, or what answers with --model"
        )
    return lists[:1]


def matrix(file: Path, table: Any, names: list[str]) -> Array:
    """Columns without missing entries as rows [N, K]: one of lists, or one a number.

    Raises:
        ValueError: if they are no numbers, or lists of several lengths.
    """
    for name in names:
        kind = table.schema.field(name).type
        if not is_number(kind) and not (len(names) == 1 and is_list(kind)):
            texts = is_text(kind)
            got = f"texts such as {listed([_odd(table.column(name))])}" if texts else kind
            raise ValueError(
                f"{file.name}: expected column {name} of numbers, got {got}; write plain numbers, or name the columns "
                "of the vectors with --vectors-prefix or --vectors-name"
            )
    column = table.column(names[0])
    if len(names) > 1 or not is_list(column.type):
        return np.stack([numbers(table.column(name)) for name in names], 1)
    plain = column.combine_chunks()
    plain = plain.storage if isinstance(plain, pa.ExtensionArray) else plain
    if not kinds.is_floating(plain.type.value_type):
        plain = plain.cast(pa.list_(pa.float64()))
    if not len(plain):
        return np.empty((0, 1))
    try:
        return rows_of(names[0], plain).numpy()
    except ValueError as error:
        raise ValueError(f"{file.name}: {error}") from error


def _odd(column: Any) -> str:
    """The first of some texts that is no number, else the first text."""
    texts = [str(one) for one in column.drop_null().to_pylist()]
    return next((one for one in texts if not _parses(one)), (texts or ["nothing"])[0])


def _parses(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def numbers(column: Any) -> Array:
    """A column of numbers as an array; nothing is missing."""
    if kinds.is_decimal(column.type):
        column = column.cast(pa.float64())
    found: Array = column.to_numpy()
    return found


def missing_in(column: Any) -> npt.NDArray[np.bool_]:
    """Rows that are null, or NaN; bool [N]."""
    absent = pc.is_null(column, nan_is_null=kinds.is_floating(column.type))
    found: npt.NDArray[np.bool_] = absent.to_numpy()
    return found


def class_names(columns: list[str], prefix: str | None) -> tuple[str, ...]:
    """What the columns of the classes are called after their prefix; empty if these are mere numbers."""
    begins = PREFIX if prefix is None else prefix
    names = tuple(name.removeprefix(begins) for name in columns)
    plain = len(names) < 2 or all(name.isdecimal() for name in names)
    return () if plain else names


def own_vectors(file: Path, options: Options) -> Vectors:
    """Vectors of a table of their own: a column of lists, or one a class, and perhaps one that names files."""
    table, _, _ = read_table(file, ())
    names = table.column_names
    try:
        columns = vector_columns(table, file, options)
    except ValueError:
        if options.vectors_name is not None or options.vectors_prefix is not None:
            raise
        # Whatever are fractions; whole numbers are positions or labels.
        columns = [
            f.name for f in table.schema if kinds.is_floating(f.type) or kinds.is_decimal(f.type)
        ]
        lists = [f.name for f in table.schema if is_list(f.type)]
        columns = lists if len(lists) == 1 else columns
        if not columns:
            raise
    absent = np.any([missing_in(table.column(name)) for name in columns], axis=0)
    if absent.any():
        raise ValueError(
            f"{file.name}: expected a vector in each row, got missing entries in row {int(absent.argmax())} and "
            f"{int(absent.sum()) - 1} others; leave these rows out, and their inputs"
        )
    found = matrix(file, table, columns)
    texts = [f.name for f in table.schema if _is_words(f.type)]
    files = [name for name in FILES if name in texts] or (texts if len(texts) == 1 else [])
    group = options.group if options.group in names else None
    if group is not None:
        require_groups(f"{file.name}: {group}", missing_in(table.column(group)))
    return Vectors(
        file.name,
        f"{file.name}: {columns[0]}" if len(columns) == 1 else file.name,
        found.shape,
        lambda keep: found if keep is None else found[keep],
        names=[str(one) for one in table.column(files[0]).to_pylist()] if files else None,
        classes=class_names(columns, options.vectors_prefix),
        groups=None
        if group is None
        else np.array([str(one) for one in table.column(group).to_pylist()]),
        beside=keys_of(table, columns),
    )


def _is_words(kind: Any) -> bool:
    plain = kind.value_type if kinds.is_dictionary(kind) else kind
    return bool(kinds.is_string(plain) or kinds.is_large_string(plain))


def keys_of(table: Any, besides: Sequence[str]) -> dict[str, Callable[[], Array]]:
    """Columns of one value a row, by name, besides some."""
    return {
        COUNTED if INDEX.fullmatch(field.name) else field.name: partial(
            _values, table.column(field.name)
        )
        for field in table.schema
        if field.name not in besides and not kinds.is_nested(field.type)
    }


def _values(column: Any) -> Array:
    plain = kinds.is_integer(column.type) and not column.null_count
    found: Array = column.to_numpy() if plain else np.array(column.to_pylist(), object)
    return found
