"""Parquet files: their layout, one file or many, and runs that were interrupted."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fresh import run
from integrations.tables import TYPES, read, table, vectors
from torch import Tensor

import mipoison as mp
from mipoison.defenses import LaplaceNoise, Rounding
from mipoison.integrations.arrow import defend, defend_parquet, parquet

N, GROUP = 200, 30
NOISE = LaplaceNoise(scale=0.05, key=1)


class Interrupted(Exception):
    """Ends a run."""


def stop_at(share: float) -> Any:
    """Progress that ends a run once a share is done."""

    def report(done: float) -> None:
        if done >= share:
            raise Interrupted

    return report


@pytest.fixture
def p() -> Tensor:
    return vectors(N)


@pytest.fixture
def source(p: Tensor, tmp_path: Path) -> Path:
    path = tmp_path / "in.parquet"
    pq.write_table(table(p), path, row_group_size=GROUP, compression="zstd")
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.parquet"


@pytest.mark.parametrize("name", TYPES)
def test_a_file_is_as_the_table(name: str, p: Tensor, tmp_path: Path) -> None:
    given = table(p, TYPES[name])
    pq.write_table(given, tmp_path / "in", row_group_size=GROUP)
    shares: list[float] = []
    done = defend_parquet(tmp_path / "in", tmp_path / "out", NOISE, progress=shares.append)
    assert done == (N, 0) and shares[-1] == 1.0 and len(shares) == 7 and shares == sorted(shares)
    found, expected = pq.read_table(tmp_path / "out"), defend(given, NOISE)
    assert found.equals(expected) and found.schema.metadata == given.schema.metadata
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_groups_and_encodings_stay(p: Tensor, tmp_path: Path) -> None:
    given = table(p, TYPES["list"]).append_column("a.b", pa.array(range(N)))
    pq.write_table(
        given,
        tmp_path / "in",
        row_group_size=GROUP,
        compression={"user": "ZSTD", "p.list.element": "GZIP", "at": "NONE", "a.b": "SNAPPY"},
        use_dictionary=["user", "a.b"],
        use_byte_stream_split=["p.list.element"],
    )
    defend_parquet(tmp_path / "in", tmp_path / "out", NOISE, drop="tags", rows_per_batch=7)
    before, after = (pq.read_metadata(tmp_path / name) for name in ("in", "out"))
    assert after.num_row_groups == before.num_row_groups == 7
    for i in range(7):
        ours, theirs = after.row_group(i), before.row_group(i)
        assert ours.num_rows == theirs.num_rows
        columns = [theirs.column(j) for j in range(before.num_columns)]
        kept = [column for column in columns if not column.path_in_schema.startswith("tags")]
        for j, column in enumerate(kept):
            assert ours.column(j).path_in_schema == column.path_in_schema
            assert ours.column(j).compression == column.compression
            assert ours.column(j).encodings == column.encodings


def test_no_number_of_the_undefended_file_is_left(source: Path, out: Path, p: Tensor) -> None:
    defend_parquet(source, out, NOISE)
    group = pq.read_metadata(out).row_group(0)
    statistics = group.column(1).statistics
    rows = NOISE(p)[:GROUP]
    assert statistics.max == rows.max() and statistics.min == rows.min()


def test_large_row_groups_are_split(
    source: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "_GROUP", 1)
    defend_parquet(source, out, NOISE, rows_per_batch=10)
    found = pq.ParquetFile(out)
    assert found.metadata.num_row_groups == 20
    assert found.read().equals(defend(pq.read_table(source), NOISE))


def test_files_without_rows_or_groups(p: Tensor, tmp_path: Path) -> None:
    pq.write_table(table(p).slice(0, 0), tmp_path / "in")
    assert defend_parquet(tmp_path / "in", tmp_path / "out", NOISE, progress=print) == (0, 0)
    assert pq.read_schema(tmp_path / "out").equals(table(p).schema)
    pq.ParquetWriter(tmp_path / "none", table(p).schema).close()
    assert defend_parquet(tmp_path / "none", tmp_path / "nothing", NOISE) == (0, 0)
    assert pq.read_table(tmp_path / "nothing").schema.equals(table(p).schema)


@pytest.fixture
def folder(p: Tensor, tmp_path: Path) -> Path:
    """A folder of files in subfolders, with others that are not to be copied."""
    path = tmp_path / "data"
    for i, name in enumerate(("b.parquet", "day=1/a.parquet", "day=2/a.parquet")):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table(p[40 * i : 40 * i + 40]), path / name, row_group_size=GROUP)
    for name in ("_metadata", "notes.txt", "_temporary/c.parquet", ".hidden.parquet"):
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_bytes(b"undefended")
    return path


def tree(path: Path) -> dict[str, bytes]:
    """All files of a folder."""
    files = [file for file in path.rglob("*") if file.is_file()]
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


def test_a_folder(folder: Path, tmp_path: Path, p: Tensor) -> None:
    assert defend_parquet(folder, tmp_path / "out", NOISE).rows == 120
    assert sorted(tree(tmp_path / "out")) == ["b.parquet", "day=1/a.parquet", "day=2/a.parquet"]
    found = pq.ParquetFile(tmp_path / "out/day=2/a.parquet").read()
    assert found.equals(defend(table(p[80:120]), NOISE))


# Interrupted.


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_an_interrupted_run_goes_on(
    share: float, source: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    defend_parquet(source, tmp_path / "whole", NOISE)
    with pytest.raises(Interrupted):
        defend_parquet(source, out, NOISE, progress=stop_at(share))
    assert not out.exists()
    shares: list[float] = []
    # With other batches; the answers do not depend on them.
    defend_parquet(source, out, NOISE, rows_per_batch=4, progress=shares.append)
    assert all(done > share for done in shares) and shares == sorted(shares)
    assert (len(shares) > 8) == (share < 1)
    assert pq.read_table(out).equals(pq.read_table(tmp_path / "whole"))
    assert not out.with_name("out.parquet.partial").exists()


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 1.0])
def test_an_interrupted_folder_goes_on(share: float, folder: Path, tmp_path: Path) -> None:
    defend_parquet(folder, tmp_path / "whole", NOISE)
    with pytest.raises(Interrupted):
        defend_parquet(folder, tmp_path / "out", NOISE, progress=stop_at(share))
    defend_parquet(folder, tmp_path / "out", NOISE)
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


@pytest.mark.parametrize("step", ["write_table", "rename", "unlink", "rmtree"])
def test_a_run_that_fails_at_the_end_goes_on(
    step: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    defend_parquet(folder, tmp_path / "whole", NOISE)
    owner: Any = {"write_table": pq.ParquetWriter, "rename": os, "unlink": Path, "rmtree": None}[
        step
    ]
    if owner is None:
        from mipoison.integrations.arrow import unfinished

        owner = unfinished.shutil

    def fails(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(owner, step, fails)
        defend_parquet(folder, tmp_path / "out", NOISE)
    if step == "rmtree":
        # The output is complete.
        assert tree(tmp_path / "out") == tree(tmp_path / "whole")
        return
    assert not (tmp_path / "out").exists()
    defend_parquet(folder, tmp_path / "out", NOISE)
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_labels_are_counted_over_interruptions(p: Tensor, out: Path, tmp_path: Path) -> None:
    p[[3, 77, 150]] *= 2
    pq.write_table(table(p), tmp_path / "in", row_group_size=GROUP)
    with pytest.raises(ValueError, match=r"in: expected outputs .* got row 3 otherwise"):
        defend_parquet(tmp_path / "in", out, NOISE)
    labels = LaplaceNoise(scale=0.05, key=1, on_invalid="label")
    with pytest.raises(Interrupted):
        defend_parquet(tmp_path / "in", out, labels, progress=stop_at(0.5))
    assert defend_parquet(tmp_path / "in", out, labels) == (N, 3)
    assert read(pq.read_table(out)["p"])[77].max() == 1


@pytest.mark.parametrize(
    ("what", "defense", "options"),
    [
        ("key", LaplaceNoise(scale=0.05, key=2), {}),
        ("defense", LaplaceNoise(scale=0.06, key=1), {}),
        ("defense, key", Rounding(2), {}),
        ("decimals", NOISE, {"decimals": 3}),
        ("ids", NOISE, {"ids": "user"}),
        ("drop", NOISE, {"drop": ["user"]}),
    ],
)
def test_another_run_does_not_go_on(
    what: str, defense: Any, options: dict[str, Any], source: Path, out: Path
) -> None:
    with pytest.raises(Interrupted):
        defend_parquet(source, out, NOISE, progress=stop_at(0.5))
    before = tree(out.with_name("out.parquet.partial"))
    with pytest.raises(ValueError, match=f"got those of one with other {what}; remove it"):
        defend_parquet(source, out, defense, **options)
    assert tree(out.with_name("out.parquet.partial")) == before


def test_a_changed_file_does_not_go_on(source: Path, out: Path, p: Tensor) -> None:
    with pytest.raises(Interrupted):
        defend_parquet(source, out, NOISE, progress=stop_at(0.5))
    pq.write_table(table(p.flip(0)), source, row_group_size=GROUP, compression="zstd")
    with pytest.raises(ValueError, match="got those of one with other files; remove it"):
        defend_parquet(source, out, NOISE)


def test_what_has_no_finished_part_begins_anew(source: Path, out: Path) -> None:
    with pytest.raises(TypeError, match="expected ids all ints, all bytes or all str, got list"):
        defend_parquet(source, out, NOISE, ids="tags")
    defend_parquet(source, out, NOISE)
    assert out.exists()


def test_the_key_is_in_no_file(source: Path, out: Path) -> None:
    text = "8f3a41c09b7e25d6aa10ff4c03b2957e"
    key = mp.Key(bytes.fromhex(text))
    with pytest.raises(Interrupted):
        defend_parquet(source, out, NOISE.with_key(key), progress=stop_at(0.5))
    written = b"".join(tree(out.with_name("out.parquet.partial")).values())
    for secret in (text, *map(str, key.words)):
        assert secret.encode() not in written
    assert key.fingerprint().encode() in written


def test_one_process_at_a_time(source: Path, out: Path) -> None:
    def again(_: float) -> None:
        with pytest.raises(ValueError, match="got one that is at work on it"):
            defend_parquet(source, out, NOISE)

    defend_parquet(source, out, NOISE, progress=again)
    assert out.exists()


# What is refused.


def test_paths_that_are_refused(source: Path, folder: Path, out: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"got nothing at .*nowhere"):
        defend_parquet(tmp_path / "nowhere", out, NOISE)
    with pytest.raises(FileNotFoundError, match="a path in a folder that exists"):
        defend_parquet(source, tmp_path / "no folder" / "out", NOISE)
    with pytest.raises(FileExistsError, match=r"a path where nothing is, got .*in\.parquet"):
        defend_parquet(source, source, NOISE)
    with pytest.raises(ValueError, match=r"expected an output outside .*data"):
        defend_parquet(folder, folder / "out", NOISE)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"expected files \*\.parquet in .*empty, got none"):
        defend_parquet(tmp_path / "empty", out, NOISE)
    (tmp_path / "text").write_text("no Parquet")
    with pytest.raises(ValueError, match=r"expected a Parquet file, got .*text"):
        defend_parquet(tmp_path / "text", out, NOISE)
    (tmp_path / "out.parquet.partial").mkdir()
    (tmp_path / "out.parquet.partial/mine").touch()
    with pytest.raises(ValueError, match="got other files; choose another output"):
        defend_parquet(source, out, NOISE)
    assert not out.exists()


def test_columns_that_are_refused(source: Path, out: Path, p: Tensor) -> None:
    with pytest.raises(ValueError, match=r"in\.parquet: expected one column 'q', got 0"):
        defend_parquet(source, out, NOISE, column="q")
    pq.write_table(table(p).append_column("raw", table(p)["p"]), source)
    with pytest.raises(ValueError, match=r"in\.parquet: expected no further columns .* got raw"):
        defend_parquet(source, out, NOISE)
    with pytest.raises(ValueError, match="expected rows_per_batch"):
        defend_parquet(source, out, NOISE, rows_per_batch=0)
    assert not out.with_name("out.parquet.partial").exists()


def test_damaged_states_are_named(source: Path, out: Path) -> None:
    with pytest.raises(Interrupted):
        defend_parquet(source, out, NOISE, progress=stop_at(0.5))
    state = out.with_name("out.parquet.partial") / "state.json"
    for damaged in ("{", "[]", json.dumps({"run": {}})):
        state.write_text(damaged)
        with pytest.raises(ValueError, match="expected the state of an unfinished run in"):
            defend_parquet(source, out, NOISE)


MEASURED = """
import os, resource, torch
import pyarrow as pa, pyarrow.parquet as pq
from mipoison.defenses import Rounding
from mipoison.integrations.arrow import defend_parquet

torch.set_num_threads(1)
# (Waiting for the disk takes no memory.)
os.fsync = lambda _: None
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
kind = pa.list_(pa.float32(), 100)
rows = torch.rand(5000, 100).softmax(1).view(-1).numpy()
group = pa.table({"p": pa.FixedSizeListArray.from_arrays(rows, type=kind)})
def write(name, groups):
    with pq.ParquetWriter(name, group.schema, use_dictionary=False) as writer:
        for _ in range(groups):
            writer.write_table(group)
write("few", 4), write("many", 40)
peaks = []
for name in ("few", "many"):
    defend_parquet(name, name + ".out", Rounding(3))
    peaks.append(peak())
print(*peaks)
"""
# MB. The longer file holds 80 MB, and 72 more than the other.
MOST_GROWTH = 24


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    done = run(MEASURED, tmp_path)
    few, many = map(int, done.stdout.split())
    assert many - few <= MOST_GROWTH, done.stderr
