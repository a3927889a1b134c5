"""The settings under which a Parquet file is written as another one was."""

from __future__ import annotations

from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from mipoison.integrations.arrow.columns import stored

_VERSIONS: Final = ("1.0", "2.4", "2.6")
_DICTIONARIES: Final = {"PLAIN_DICTIONARY", "RLE_DICTIONARY"}


def settings_like(metadata: pq.FileMetaData, given: pa.Schema, made: pa.Schema) -> dict[str, Any]:
    """Compression and encodings of each column of a file, as `pyarrow.parquet.ParquetWriter` takes them.

    Args:
        metadata: of the file.
        given: its schema.
        made: the schema of what is written: its columns, in their order, but for those that are dropped.
    """
    if metadata.num_row_groups == 0:
        return {}
    # Readers and writers name the entries of lists differently; the order of the columns is the same.
    fields, paths = _leaves(given), _paths(made)
    group = metadata.row_group(0)
    kept = [i for i, field in enumerate(fields) if given[field].name in made.names]
    if len(fields) != metadata.num_columns or len(kept) != len(paths):
        return {}
    columns = [group.column(i) for i in kept]
    like = dict(zip(paths, columns, strict=True))
    return {
        "version": metadata.format_version if metadata.format_version in _VERSIONS else "2.6",
        "compression": {path: _codec(column.compression) for path, column in like.items()},
        "use_dictionary": [p for p, column in like.items() if _DICTIONARIES & {*column.encodings}],
        "use_byte_stream_split": [
            path for path, column in like.items() if "BYTE_STREAM_SPLIT" in column.encodings
        ],
        "use_deprecated_int96_timestamps": any(c.physical_type == "INT96" for c in columns),
    }


def entries(metadata: pq.FileMetaData, schema: pa.Schema, names: tuple[str, ...]) -> int:
    """How many numbers some columns of a file hold."""
    fields = _leaves(schema)
    if len(fields) != metadata.num_columns:
        return 0
    columns = [i for i, field in enumerate(fields) if schema[field].name in names]
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    return sum(group.column(i).num_values for group in groups for i in columns)


def _codec(name: str) -> str:
    return {"UNCOMPRESSED": "NONE", "LZ4_RAW": "LZ4"}.get(name, name)


def _leaves(schema: pa.Schema) -> list[int]:
    """The field that each column of Parquet belongs to, which holds numbers or texts."""
    found: list[int] = []
    for i, field in enumerate(schema):
        # (Names may hold dots, so that paths do not tell.)
        nested = stored(field.type).num_fields > 0
        found += [i] * (len(_paths(pa.schema([field]))) if nested else 1)
    return found


def _paths(schema: pa.Schema) -> list[str]:
    """The columns that Parquet makes of a schema."""
    sink = pa.BufferOutputStream()
    pq.ParquetWriter(sink, schema).close()
    written = pq.ParquetFile(pa.BufferReader(sink.getvalue())).schema
    return [written.column(i).path for i in range(len(written.names))]
