"""Defend the vectors in Arrow data, or in frames of pandas and polars, and give back the same kind."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa

from mipoison.defenses import Defense, Deferred
from mipoison.integrations.arrow import frames
from mipoison.integrations.arrow.batches import Batches, Names


def defend(
    data: Any,
    defense: Defense | Deferred,
    *,
    column: Names = "p",
    decimals: int | None = None,
    ids: Any = None,
    drop: Names = (),
    keep: Names = (),
) -> Any:
    """Replaces the confidence vectors of a table by defended ones.

    Vectors are a column of lists of float16, float32 or float64, fixed-size ones or of one length, or a column of
    tensors of one dimension, as Arrow and Ray have them; or a column of numbers for each class. Columns of lists are
    read without a copy. All other columns, their order and the metadata of the schema stay as they are.

    Columns that may hold more undefended numbers are refused, by their type: lists, structs and maps of fractions.
    Single numbers, such as a confidence or those of one class, and serialised bytes pass, and are yours to drop.

    Args:
        data: of pyarrow a RecordBatch, Table, RecordBatchReader, Array or ChunkedArray; an iterable of RecordBatches;
            an object with `__arrow_c_stream__`; a DataFrame or Series of pandas, where vectors are arrays or lists, or
            of polars.
        defense: any defense of this package, or a `Deferred`.
        column: the column of the vectors; or those of the classes, in their order, each of one number a row.
        decimals: see `mipoison.defenses.wire.on_the_wire`. Vectors have type float64 then.
        ids: name of the column of request identities, see `Defense.forward`; beside a single column of vectors N ids.
        drop: columns to leave out.
        keep: columns of several fractions a row that hold nothing to be defended.

    Returns:
        The same kind. A reader, stream or iterable gives a RecordBatchReader, which defends a batch when it is read.

    Raises:
        TypeError: for other data, or columns of other types.
        ValueError: for columns that are not there; for missing rows or entries, several lengths, and what
            `Defense.forward` refuses, by their number in the table; of a reader when such a batch is read.

    Example:
        >>> import pyarrow as pa
        >>> from mipoison.defenses import Rounding
        >>> table = pa.table({"id": ["a"], "p": pa.array([[0.71, 0.29]], pa.list_(pa.float32(), 2))})
        >>> defend(table, Rounding(1))["p"].to_pylist()[0] == [0.7, 0.3]
        False
        >>> defend(table, Rounding(1), decimals=1)["p"].to_pylist()
        [[0.7, 0.3]]
    """
    options = {"column": column, "decimals": decimals, "ids": ids, "drop": drop, "keep": keep}
    if frames.are(data):
        return frames.defend(data, defense, _table, **options)
    if isinstance(data, pa.Table):
        return _table(data, defense, options)
    if isinstance(data, pa.RecordBatch):
        return Batches(data.schema, defense, **options)(data)
    if isinstance(data, pa.Array | pa.ChunkedArray):
        return _column(data, defense, options)
    if not isinstance(data, pa.RecordBatchReader) and hasattr(data, "__arrow_c_stream__"):
        data = pa.RecordBatchReader.from_stream(data)
    if isinstance(data, pa.RecordBatchReader):
        return _reader(data.schema, data, defense, options)
    if isinstance(data, Iterable) and not isinstance(data, str | bytes | dict):
        return _iterable(data, defense, options)
    raise TypeError(
        "expected a table, a record batch, a reader of them, a column, or a frame of pandas or polars, got "
        f"{type(data).__name__}"
    )


def _table(table: pa.Table, defense: Defense | Deferred, options: dict[str, Any]) -> pa.Table:
    batches = Batches(table.schema, defense, **options)
    return pa.Table.from_batches(_answers(batches, table.to_batches()), batches.schema)


def _reader(
    schema: pa.Schema,
    given: Iterable[pa.RecordBatch],
    defense: Defense | Deferred,
    options: dict[str, Any],
) -> pa.RecordBatchReader:
    batches = Batches(schema, defense, **options)
    return pa.RecordBatchReader.from_batches(batches.schema, _answers(batches, given))


def _iterable(
    data: Iterable[Any], defense: Defense | Deferred, options: dict[str, Any]
) -> pa.RecordBatchReader:
    given = iter(data)
    first = next(given, None)
    if not isinstance(first, pa.RecordBatch):
        got = "none" if first is None else type(first).__name__
        raise TypeError(f"expected record batches of pyarrow, got {got}; name columns with column=")
    return _reader(first.schema, itertools.chain((first,), given), defense, options)


def _answers(batches: Batches, given: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The answers, one batch at a time."""
    first = 0
    for batch in given:
        yield batches(batch, first)
        first += batch.num_rows


def _column(data: Any, defense: Defense | Deferred, options: dict[str, Any]) -> Any:
    """The answers to a column that stands alone."""
    table = frames.alone(data, options)
    found = _table(table, defense, options).column(0)
    if isinstance(data, pa.ChunkedArray):
        return found
    return found.chunk(0) if found.num_chunks else pa.array([], found.type)
