"""Defend Parquet files of any length in little memory, and go on where an interrupted run stopped."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from mipoison.defenses import Defense, Deferred, storage
from mipoison.integrations.arrow.batches import Batches, Names, as_names
from mipoison.integrations.arrow.unfinished import Unfinished
from mipoison.integrations.arrow.written import entries, settings_like
from mipoison.key_text import FilePath
from mipoison.ops.numbers import as_count
from mipoison.ops.validation import as_part
from mipoison.progress import Report, as_report

# Numbers of a batch of vectors, and its rows at most.
_NUMBERS: Final = 1 << 20
_ROWS: Final = 1 << 16
# Bytes of decoded rows in a row group at most: it is written as a whole.
_GROUP: Final = 1 << 28
# Bytes that are read at once of a column.
_READ: Final = 1 << 20
# Bytes at the end of a file that tell whether it has changed.
_FOOTER: Final = 1 << 16


class Counts(NamedTuple):
    """What became of a file or folder.

    Attributes:
        rows: all rows.
        labels: those that were no probability vectors, and were answered by their labels alone.
    """

    rows: int
    labels: int


def defend_parquet(
    source: FilePath,
    out: FilePath,
    defense: Defense | Deferred,
    *,
    column: Names = "p",
    decimals: int | None = None,
    ids: str | None = None,
    drop: Names = (),
    keep: Names = (),
    rows_per_batch: int | None = None,
    progress: Report | None = None,
) -> Counts:
    """Defends a Parquet file, or all of a folder, into a new one.

    Until it is complete, it lies in a folder `OUT.partial` beside it: the answers to each row group, and what they are
    of. The same call goes on from there. One with other options, another defense or key, or changed files is refused.

    Row groups, compression and encodings stay as they are, but row groups of more than 256 MiB of decoded rows are
    split, so that memory does not depend on what comes in.

    Args:
        source: a file; or a folder, whose files `*.parquet` are defended, in subfolders, too, but not in those that
            begin with a dot or underscore.
        out: a path where nothing is yet.
        defense: see `defend`, as are column, decimals, drop and keep.
        column: of the vectors.
        decimals: of the answers.
        ids: name of the column of request identities.
        drop: columns to leave out.
        keep: columns that hold nothing to be defended.
        rows_per_batch: rows that are read at once; by default about a million numbers, and 65,536 rows at most. The
            answers do not depend on it.
        progress: called with the share of rows that are answered, in (0, 1], after each batch.

    Returns:
        how many rows there are.

    Raises:
        TypeError: as `defend`.
        ValueError: as `defend`; for files that are not Parquet; for a folder `OUT.partial` of another run, or one that
            another process is at work on.
        OSError: if a file cannot be read or written, or there is something at `out`.
    """
    if isinstance(defense, Deferred):
        defense = defense.defense
    as_part("defense", defense, Defense, "mp.LPA.fit")  # type: ignore[type-abstract]
    if rows_per_batch is not None:
        rows_per_batch = as_count("rows_per_batch", rows_per_batch, 1)
    told = as_report(progress)
    source, out = Path(source), Path(out)
    folder, names = _files(source, out)
    options = {"column": column, "decimals": decimals, "ids": ids, "drop": drop, "keep": keep}
    files = [_File(folder / name, defense, options) for name in names]
    total, done = sum(file.rows for file in files), 0

    def report(rows: int) -> None:
        if told is not None and rows > 0:
            told(rows / total)

    with Unfinished(out, _run(names, files, defense, options)) as unfinished:
        for number, (name, file) in enumerate(zip(names, files, strict=True)):
            with file.opened() as opened:
                for group in range(file.groups):
                    if not unfinished.has(number, group):
                        before = defense.failures
                        with unfinished.writing(number, group) as stream:
                            for rows in file.answer(opened, group, stream, rows_per_batch):
                                if rows < file.rows_of(group):
                                    report(done + rows)
                        unfinished.keep_part(number, defense.failures - before)
                        report(done + file.rows_of(group))
                    done += file.rows_of(group)
            if unfinished.finished <= number:
                file.join(unfinished.parts(number), unfinished.file(name))
                unfinished.keep_file(number, name)
        unfinished.finish(None if source.is_dir() else names[0])
        return Counts(total, unfinished.labels)


def _run(
    names: list[Path], files: list[_File], defense: Defense, options: dict[str, Any]
) -> dict[str, Any]:
    """What the answers depend on, as JSON."""
    columns = {name: list(as_names(options[name])) for name in ("column", "drop", "keep")}
    identities = [file.identity for file in files]
    return {
        "files": dict(zip(map(str, names), identities, strict=True)),
        "defense": _hash(defense),
        "key": None if defense._key is None else defense._key.fingerprint(),
        **options,
        **columns,
        "mipoison": version("mipoison"),
    }


def _hash(defense: Defense) -> str:
    """What tells defenses apart, whatever their keys."""
    file = io.BytesIO()
    defense.save(file)
    file.seek(0)
    # (The order of names in a file is not always the same.)
    content = storage.load(file)
    made = hashlib.blake2b(digest_size=16)
    made.update(json.dumps([content.kind, content.settings], sort_keys=True).encode())
    for name, tensor in sorted(content.tensors.items()):
        made.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        made.update(tensor.contiguous().numpy().tobytes())
    return made.hexdigest()


class _File:
    """One of the files.

    Raises:
        TypeError: for columns of wrong types.
        ValueError: for a file that is not Parquet, or columns that are not there.
    """

    def __init__(self, path: Path, defense: Defense, options: dict[str, Any]) -> None:
        self._path = path
        with self.opened() as file:
            metadata, schema = file.metadata, file.schema_arrow
        with self._named():
            self._batches = batches = Batches(schema, defense, **options)
        self._settings = settings_like(metadata, schema, batches.schema)
        self._rows: list[int] = [
            metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)
        ]
        self.rows, self.groups = sum(self._rows), len(self._rows)
        self._width = entries(metadata, schema, batches.vectors) // max(1, self.rows)
        stat = path.stat()
        with path.open("rb") as stream:
            # (The last bytes hold the sizes and statistics of all columns.)
            stream.seek(-min(stat.st_size, _FOOTER), io.SEEK_END)
            footer = hashlib.blake2b(stream.read(), digest_size=16).hexdigest()
        self.identity = [stat.st_size, stat.st_mtime_ns, footer]

    def opened(self) -> pq.ParquetFile:
        """The file, of which a part at a time is read."""
        try:
            return pq.ParquetFile(self._path, buffer_size=_READ, pre_buffer=False)
        except pa.ArrowInvalid as error:
            raise ValueError(f"expected a Parquet file, got {self._path} ({error})") from error

    def rows_of(self, group: int) -> int:
        """Rows of a row group."""
        return self._rows[group]

    def answer(
        self, file: pq.ParquetFile, group: int, stream: BinaryIO, rows: int | None
    ) -> Iterator[int]:
        """Writes the answers to a row group, and yields after each batch how many of its rows are done.

        Raises:
            ValueError: for rows that cannot be defended.
        """
        rows = rows or max(1, min(_ROWS, _NUMBERS // max(1, self._width)))
        first, done = sum(self._rows[:group]), 0
        with pa.ipc.new_stream(stream, self._batches.schema) as sink:
            for batch in file.iter_batches(rows, row_groups=[group]):
                with self._named():
                    sink.write_batch(self._batches(batch, first + done))
                done += batch.num_rows
                yield done

    def join(self, parts: Iterable[Path], path: Path) -> None:
        """Writes the answers to all row groups as one Parquet file."""
        schema = self._batches.schema
        with pq.ParquetWriter(path, schema, **self._settings) as writer:
            for part in parts:
                for table in _tables(part, schema):
                    writer.write_table(table, row_group_size=len(table))
        if (rows := pq.read_metadata(path).num_rows) != self.rows:
            raise ValueError(
                f"expected {self.rows} answers to {self._path}, got {rows}: the partial files are damaged; remove "
                "their folder, and start again"
            )

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Names the file in errors."""
        try:
            yield
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"{self._path}: {error}") from error


def _tables(part: Path, schema: pa.Schema) -> Iterator[pa.Table]:
    """A part as tables for row groups: one, unless it is large."""
    with part.open("rb") as stream, pa.ipc.open_stream(stream) as reader:
        held: list[pa.RecordBatch] = []
        size = 0
        for batch in reader:
            if held and size + batch.nbytes > _GROUP:
                yield pa.Table.from_batches(held, schema)
                held, size = [], 0
            held.append(batch)
            size += batch.nbytes
        if held:
            yield pa.Table.from_batches(held, schema)


def _files(source: Path, out: Path) -> tuple[Path, list[Path]]:
    """The folder of the files to defend, and their paths in it, in order.

    Raises:
        ValueError: if there are none, or the output would lie among them.
        OSError: if the source is not there, or something at the output.
    """
    if not source.exists():
        raise FileNotFoundError(
            f"expected a Parquet file or a folder of them, got nothing at {source}"
        )
    if out.exists():
        raise FileExistsError(
            f"expected a path where nothing is, got {out}; remove it, or choose another"
        )
    if not source.is_dir():
        return source.parent, [Path(source.name)]
    if out.resolve().is_relative_to(source.resolve()):
        raise ValueError(f"expected an output outside {source}, got {out}; choose another folder")
    found = sorted(path.relative_to(source) for path in source.rglob("*.parquet"))
    names = [name for name in found if not any(part[0] in "._" for part in name.parts)]
    if not names:
        raise ValueError(f"expected files *.parquet in {source}, got none")
    return source, names
