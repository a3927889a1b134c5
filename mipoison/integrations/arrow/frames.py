"""Frames and series of pandas and polars, by way of Arrow; neither library is imported here before a frame comes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from mipoison.integrations.arrow.batches import as_names, require_no_others

Table = Callable[[pa.Table, Any, dict[str, Any]], pa.Table]


def are(data: Any) -> bool:
    """Whether it is a frame or series of pandas or polars."""
    library = type(data).__module__.partition(".")[0]
    return library in ("pandas", "polars") and type(data).__name__ in ("DataFrame", "Series")


def alone(data: Any, options: dict[str, Any]) -> pa.Table:
    """A table of a column that stands alone, and of its ids; the options are those of the table then.

    Raises:
        TypeError: for ids of several kinds.
        ValueError: for options that need more columns, or ids that are not as many.
    """
    ids = options["ids"]
    if options["drop"] or options["keep"]:
        raise ValueError("expected no drop and keep for a column that stands alone, got some")
    if options["column"] != "p":
        raise ValueError(
            f"expected no column for a column that stands alone, got {options['column']!r}; leave it out"
        )
    if isinstance(ids, str):
        raise ValueError(f"expected as many ids as rows beside a single column, got {ids!r}")
    options |= {"column": "p"}
    if ids is None:
        return pa.table({"p": data})
    options |= {"ids": "ids", "drop": ("ids",)}
    given = ids if isinstance(ids, list | tuple) else np.asarray(ids)
    if len(given) != len(data):
        raise ValueError(f"expected {len(data)} ids, one a row, got {len(given)}")
    return pa.table({"p": data, "ids": pa.array(given)})


def defend(data: Any, defense: Any, table: Table, **options: Any) -> Any:
    """See `mipoison.integrations.arrow.defend`.

    Args:
        data: a frame or series.
        defense: the defense.
        table: defends a table, under these options.
        options: of `mipoison.integrations.arrow.defend`.
    """
    library: Any = _Polars if type(data).__module__.startswith("polars") else _Pandas
    if type(data).__name__ == "Series":
        found = table(alone(library.column(data), options), defense, options)
        return library.series(found.column(0), data)
    vectors, drop = as_names(options["column"]), as_names(options["drop"])
    keep, ids = as_names(options.pop("keep")), options["ids"]
    named = dict.fromkeys((*vectors, *drop, *keep, *(() if ids is None else as_names(ids))))
    library.require(data, named)
    require_no_others(library.schema(data), vectors, drop, keep)
    asked = vectors if ids is None else (*vectors, ids)
    options |= {"drop": () if ids is None else (ids,)}
    given = pa.table({name: library.column(data[name]) for name in asked})
    found = table(given, defense, options)
    answers = {name: library.series(found[name], data[name]) for name in vectors}
    return library.replaced(data, answers, list(drop))


class _Pandas:
    """Series whose vectors are arrays or lists, or of an Arrow type."""

    @staticmethod
    def require(frame: Any, names: Any) -> None:
        """Raises ValueError for columns that are not there once."""
        for name in names:
            if (count := list(frame.columns).count(name)) != 1:
                raise ValueError(
                    f"expected one column {name!r}, got {count}; the columns are {list(frame.columns)[:20]}"
                )

    @staticmethod
    def schema(frame: Any) -> pa.Schema:
        """The types that the columns have in Arrow, as far as vectors go; of objects that of the first one."""
        fields = []
        for i, name in enumerate(frame.columns):
            series = frame.iloc[:, i]
            kind = getattr(series.dtype, "pyarrow_dtype", pa.null())
            if series.dtype == object:
                there = series[series.notna()]
                nested = len(there) > 0 and _nested(there.iloc[0])
                kind = pa.list_(pa.float64()) if nested else pa.null()
            fields.append(pa.field(str(name), kind))
        return pa.schema(fields)

    @staticmethod
    def column(series: Any) -> Any:
        """The series as a column.

        Raises:
            ValueError: for missing vectors, or several lengths or kinds of them.
        """
        if hasattr(series.dtype, "pyarrow_dtype"):
            return series.array.__arrow_array__()
        # (Arrow would take NaN in a vector for missing otherwise.)
        values = series.to_numpy()
        if values.dtype != object:
            return pa.array(values, from_pandas=False)
        if (missing := series.isna().to_numpy()).any():
            values = np.where(missing, None, values)
        try:
            return pa.array(values, from_pandas=False)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise TypeError(
                f"expected column {series.name} to hold arrays of one dtype, got others: {error}"
            ) from error

    @staticmethod
    def series(column: pa.ChunkedArray, given: Any) -> Any:
        """A column as a series like another."""
        import pandas

        if hasattr(given.dtype, "pyarrow_dtype"):
            values: Any = pandas.arrays.ArrowExtensionArray(column)
        elif given.dtype == object:
            lists = len(given) > 0 and isinstance(given.iloc[0], list)
            values = column.to_pylist() if lists else column.to_numpy()
        else:
            values = column.to_numpy()
        kind = object if given.dtype == object else None
        return pandas.Series(values, index=given.index, name=given.name, dtype=kind)

    @staticmethod
    def replaced(frame: Any, columns: dict[str, Any], drop: list[str]) -> Any:
        """The frame with other columns in place of some; the given one stays."""
        frame = frame.drop(columns=drop)
        for name, series in columns.items():
            frame[name] = series
        return frame


def _nested(entry: Any) -> bool:
    """Whether an object may hold several fractions."""
    if isinstance(entry, str | bytes):
        return False
    if isinstance(entry, dict):
        entry = list(entry.values())
    sized = hasattr(entry, "__len__") or hasattr(entry, "__array__")
    return sized and (np.asarray(entry).dtype.kind in "fcO")


class _Polars:
    """Series of the types Array and List."""

    @staticmethod
    def require(frame: Any, names: Any) -> None:
        """Raises ValueError for columns that are not there."""
        for name in names:
            if name not in frame.columns:
                raise ValueError(
                    f"expected one column {name!r}, got none; the columns are {frame.columns[:20]}"
                )

    @staticmethod
    def schema(frame: Any) -> pa.Schema:
        """The types that the columns have in Arrow."""
        return frame.head(0).to_arrow().schema

    @staticmethod
    def column(series: Any) -> Any:
        """The series as a column."""
        return series.to_arrow()

    @staticmethod
    def series(column: pa.ChunkedArray, given: Any) -> Any:
        """A column as a series like another."""
        import polars

        return polars.Series(given.name, column)

    @staticmethod
    def replaced(frame: Any, columns: dict[str, Any], drop: list[str]) -> Any:
        """The frame with other columns in place of some."""
        return frame.drop(drop).with_columns(*columns.values())
