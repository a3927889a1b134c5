"""Tables of numbers that float64 hardly holds, and tables too large for the memory of an audit."""

import gzip

import numpy as np
import pytest

from mipoison.audit.reading import found
from mipoison.audit.reading.read import read

parquet = pytest.importorskip("pyarrow.parquet")
table_files = pytest.importorskip("mipoison.audit.reading.tables.files")

HALF = np.arange(320) % 2 == 0


@pytest.mark.parametrize("low, high", [(1.6e308, 1.7e308), (-1e308, 1e308), (0.0, 5e-324)])
def test_numbers_without_a_spread_in_float64(low, high, people, write):
    odd = {**people, "height": np.where(HALF, low, high)}
    with pytest.raises(ValueError, match=r"column height whose spread float64 holds.*--leave-out"):
        read(write(odd, "people.parquet"), group="person")


def test_large_whole_numbers_are_not_called_equal(people, write):
    odd = {**people, "height": np.where(HALF, 2**64 - 1, 2**64 - 2).astype(np.uint64)}
    with pytest.raises(ValueError, match=r"column height whose spread float64 holds"):
        read(write(odd, "people.parquet"), group="person")
    equal = {**people, "height": np.full(320, 2**64 - 1, np.uint64)}
    found = read(write(equal, "people.parquet"), group="person")
    assert any("same value in every row were left out: height" in note for note in found.notes)


def test_large_tables_are_refused_before_they_are_read(people, write, monkeypatch):
    path = write(people)
    packed = path.with_suffix(".csv.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert len(read(packed, group="person")) == 320
    assert packed.stat().st_size < 30_000 < path.stat().st_size
    monkeypatch.setattr(table_files, "_MOST_TEXT", 30_000)
    for file in (path, packed):
        with pytest.raises(ValueError, match=r"people\.csv.*: expected at most .* GiB, got"):
            read(file, group="person")
    packed.write_bytes(packed.read_bytes()[:99])
    with pytest.raises(ValueError, match=r"people\.csv\.gz: expected CSV.*damaged"):
        read(packed, group="person")


def test_parquet_is_read_a_few_rows_at_once(people, p, write, monkeypatch):
    """Of lists that the file repeats, memory takes all numbers."""
    long = {"e": [[float(i % 7)] * 3000 for i in range(320)], "p": list(p)}
    path = write(long, "long.parquet")
    assert path.stat().st_size < 320 * 3000
    monkeypatch.setattr(found, "MOST_ROWS", 310)
    monkeypatch.setattr(table_files, "_TOGETHER", 5 * 8 * 3000)
    asked = []
    whole = parquet.ParquetFile.iter_batches
    monkeypatch.setattr(
        parquet.ParquetFile,
        "iter_batches",
        lambda self, batch_size: asked.append(batch_size) or whole(self, batch_size=batch_size),
    )
    assert table_files.read_table(path, (), [])[0].num_rows == 310 and asked == [4]
    monkeypatch.setattr(found, "_MOST_RAW", 300 * 8 * 2900)
    with pytest.raises(ValueError, match=r"inputs: expected rows of at most"):
        read(path)
    monkeypatch.setattr(table_files, "_MOST_BYTES", 320 * 8 * 2900)
    with pytest.raises(ValueError, match=r"long\.parquet: expected at most"):
        table_files.read_table(path, ())
