"""Read CSV and Parquet files within the memory of an audit."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pyarrow.types as kinds

from mipoison.audit.reading.found import listed, sampled
from mipoison.audit.reading.vectors import PARQUET, ends

_MOST_BYTES: Final = 1 << 31
# Of CSV, which is read as a whole: "0,1," is twice 8 bytes in memory.
_MOST_TEXT: Final = 1 << 29
# Rows, and bytes, of a Parquet file that are read at once.
_ROWS: Final = 1 << 13
_TOGETHER: Final = 1 << 26
# Bytes in which the line of names is looked for.
_LINE: Final = 1 << 16
# Bytes of a number in memory.
_NUMBER: Final = 8


def read_table(
    file: Path, missing: tuple[str, ...], notes: list[str] | None = None
) -> tuple[Any, npt.NDArray[np.int64] | None, int]:
    """An Arrow table, the positions of its rows in the file (None: all rows), and how many rows that has.

    Args:
        file: CSV or Parquet.
        missing: see `Options`.
        notes: gets a line where rows are left out, of tables that are too long; None: all rows are read.

    Raises:
        ValueError: if the file is damaged, too large, no table, or has two columns of one name.
    """
    try:
        if ends(file, PARQUET):
            table, keep, count = _parquet(file, notes)
        else:
            table = _csv(file, missing)
            count = table.num_rows
            keep = None if notes is None else sampled(count, 1, notes)
            table = table if keep is None else table.take(keep)
        names = table.column_names
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        # (Of the system, but not of what unpacks: it may not be read.)
        if isinstance(error, OSError) and error.errno is not None:
            raise
        said = str(error).partition("\n")[0]
        kind = "Parquet" if ends(file, PARQUET) else "CSV in UTF-8 with a line of names first"
        raise ValueError(
            f"{file.name}: expected {kind}, got a file that is damaged or another ({said[:200]})"
        ) from error
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(
            f"{file.name}: expected columns of different names, got several called {listed(repeated)}; rename them"
        )
    return table, keep, count


def _parquet(file: Path, notes: list[str] | None) -> tuple[Any, npt.NDArray[np.int64] | None, int]:
    # (Neither the whole file nor a whole group of rows is to be in memory.)
    opened = pq.ParquetFile(file, memory_map=True, pre_buffer=False)
    count, size = opened.metadata.num_rows, _unpacked(opened.metadata)
    row = size // max(1, count)
    keep = None if notes is None else sampled(count, 1, notes, raw=row)
    if keep is None:
        _require_size(file, size, _MOST_BYTES)
        return opened.read(), None, count
    parts, first = [], 0
    step = max(1, min(_ROWS, _TOGETHER // max(1, row)))
    for batch in opened.iter_batches(batch_size=step):
        low, high = np.searchsorted(keep, (first, first + len(batch)))
        parts.append(batch.take(pa.array(keep[low:high] - first)))
        first += len(batch)
    return pa.Table.from_batches(parts), keep, count


def _unpacked(metadata: Any) -> int:
    """Bytes of a Parquet file in memory, about; what is repeated takes nearly none in the file."""
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    columns = [group.column(j) for group in groups for j in range(group.num_columns)]
    return sum(max(one.total_uncompressed_size, _NUMBER * one.num_values) for one in columns)


def _csv(file: Path, missing: tuple[str, ...]) -> Any:
    _require_size(file, _size_of_text(file), _MOST_TEXT)
    sign = "\t" if ends(file, (".tsv", ".tsv.gz")) else _separator(file)
    table = _parsed(file, sign, missing)
    # Spreadsheets write semicolons where the decimal sign is a comma.
    if sign == ";" and any(kinds.is_string(field.type) for field in table.schema):
        commas = _parsed(file, sign, missing, decimal=",")
        table = max(table, commas, key=lambda one: sum(map(is_number, one.schema.types)))
    if binary := [field.name for field in table.schema if kinds.is_binary(field.type)]:
        raise pa.ArrowInvalid(f"column {binary[0]} has bytes that are no text")
    return table


def _separator(file: Path) -> str:
    """A semicolon where the line of names has more of them than commas, else a comma."""
    packed = "gzip" if ends(file, (".gz",)) else None
    with pa.input_stream(str(file), compression=packed) as stream:
        first = stream.read(_LINE).partition(b"\n")[0]
    return ";" if first.count(b";") > first.count(b",") else ","


def _parsed(file: Path, sign: str, missing: tuple[str, ...], *, decimal: str = ".") -> Any:
    convert = pa.csv.ConvertOptions(
        null_values=[*pa.csv.ConvertOptions().null_values, *missing],
        strings_can_be_null=True,
        decimal_point=decimal,
    )
    parse = pa.csv.ParseOptions(delimiter=sign, newlines_in_values=True)
    table = pa.csv.read_csv(file, parse_options=parse, convert_options=convert)
    return table.rename_columns([name.strip() for name in table.column_names])


def is_number(kind: Any) -> bool:
    """Whether each row has one number."""
    return bool(kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_decimal(kind))


def _size_of_text(file: Path) -> int:
    """Bytes of a CSV, of one that is compressed those that it holds, as far as the limit."""
    if not ends(file, (".gz",)):
        return file.stat().st_size
    size = 0
    with pa.input_stream(str(file), compression="gzip") as stream:
        while size <= _MOST_TEXT and (part := stream.read(_TOGETHER // 64)):
            size += len(part)
    return size


def _require_size(file: Path, size: int, most: int) -> None:
    if size > most:
        raise ValueError(
            f"{file.name}: expected at most {most / 2**30:g} GiB, got {size / 2**30:.2g} GiB or more; save fewer rows, "
            "or inputs as Parquet, of which rows are drawn"
        )
