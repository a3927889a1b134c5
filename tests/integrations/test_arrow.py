"""Arrow data in and out: every type of column, every kind of table, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from fresh import run
from integrations.tables import TYPES, K, N, column, read, table, vectors
from torch import Tensor

import mipoison as mp
from mipoison.defenses import LaplaceNoise, Rounding
from mipoison.defenses.wire import on_the_wire
from mipoison.integrations.arrow import batches, defend
from mipoison.integrations.arrow.columns import column_of, rows_of

NOISE = LaplaceNoise(scale=0.05, key=1)


@pytest.fixture
def p() -> Tensor:
    return vectors()


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("decimals", [None, 3])
def test_answers_are_those_of_the_defense(name: str, decimals: int | None, p: Tensor) -> None:
    given = table(p, TYPES[name])
    found = defend(given, NOISE, decimals=decimals)
    asked = torch.from_numpy(read(given["p"]).copy())
    expected: Any = on_the_wire(NOISE, asked, decimals=decimals)
    assert (read(found["p"]) == expected.numpy()).all()
    assert (read(found["p"]) != read(given["p"])).any()
    assert found.drop(["p"]).equals(given.drop(["p"]), check_metadata=True)
    assert found.column_names == given.column_names
    if decimals is None:
        assert found.schema.equals(given.schema, check_metadata=True)
    else:
        sums = [sum(map(int, (row * 1000).round())) for row in read(found["p"])]
        assert sums == [1000] * N


class Tensors(pa.ExtensionType):  # type: ignore[misc]
    """The tensors of another library."""

    shape = (K,)

    def __init__(self) -> None:
        super().__init__(pa.list_(pa.float32()), "another library's")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type: Any, serialized: bytes) -> Tensors:
        return cls()


def test_tensors_of_other_libraries(p: Tensor) -> None:
    given = table(p, Tensors())
    found = defend(given, NOISE)
    assert found.schema == given.schema and (read(found["p"]) == NOISE(p).numpy()).all()
    found = defend(given, NOISE, decimals=2)
    assert found.schema.field("p").type == pa.list_(pa.float64())
    assert (read(found["p"]) == on_the_wire(NOISE, p, decimals=2).numpy()).all()  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", [*TYPES.values(), Tensors()], ids=str)
def test_slices_and_chunks(kind: Any, p: Tensor) -> None:
    given = table(p, kind)
    whole = read(defend(given, NOISE)["p"])
    parts = pa.concat_tables([given.slice(0, 7), given.slice(7, 1), given.slice(8, 40)]).slice(
        3, 42
    )
    assert (read(defend(parts, NOISE)["p"]) == whole[3:45]).all()
    none = defend(given.slice(0, 0), NOISE)
    assert len(none) == 0 and none.schema.equals(given.schema, check_metadata=True)
    batch = given.to_batches()[0].slice(0, 0)
    assert defend(batch, NOISE, decimals=2).num_rows == 0
    assert defend(batch, NOISE).schema.equals(given.schema, check_metadata=True)


@pytest.mark.parametrize("name", ["fixed", "list", "large", "tensor"])
def test_columns_are_read_and_written_without_a_copy(name: str, p: Tensor) -> None:
    lists = column(p.numpy(), TYPES[name])
    plain = lists.storage if isinstance(lists, pa.ExtensionArray) else lists
    rows = rows_of("p", lists[3:])
    assert rows.data_ptr() == plain.values.buffers()[1].address + 3 * K * 4
    made = column_of(p, TYPES[name])
    plain = made.storage if isinstance(made, pa.ExtensionArray) else made
    assert plain.values.buffers()[1].address == p.data_ptr()


def test_nothing_is_written_to_what_comes_in(p: Tensor) -> None:
    given = table(p)
    before = read(given["p"]).copy()
    defend(given, NOISE, decimals=2)
    assert (read(given["p"]) == before).all()


def reader(given: Any) -> Any:
    return given.to_reader(max_chunksize=16)


class Stream:
    """An object of another library that gives Arrow data."""

    def __init__(self, given: Any) -> None:
        self.__arrow_c_stream__ = reader(given).__arrow_c_stream__


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda t: t, "Table"),
        (lambda t: t.to_batches()[0], "RecordBatch"),
        (reader, "RecordBatchReader"),
        (lambda t: t.to_batches(max_chunksize=7), "RecordBatchReader"),
        (lambda t: iter(t.to_batches(max_chunksize=7)), "RecordBatchReader"),
        (Stream, "RecordBatchReader"),
        (lambda t: t["p"], "ChunkedArray"),
        (lambda t: t["p"].chunk(0), "FixedSizeListArray"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_same_kind_comes_out(make: Callable[[Any], Any], kind: str, p: Tensor) -> None:
    found = defend(make(table(p)), NOISE)
    assert type(found).__name__ == kind
    if kind == "RecordBatchReader":
        found = found.read_all()
    vectors = found if "Array" in kind else found.column("p")
    assert (read(vectors) == NOISE(p).numpy()).all()


def test_a_reader_is_defended_as_it_is_read(p: Tensor) -> None:
    taken = []

    def given() -> Any:
        for i in range(3):
            taken.append(i)
            yield table(p).to_batches()[0]

    found = defend(given(), NOISE)
    assert taken == [0]
    found.read_next_batch()
    assert len(taken) < 3


def test_columns_of_the_classes(p: Tensor) -> None:
    names = [f"p{i}" for i in range(K)]
    parts = {name: p[:, i].numpy() for i, name in enumerate(names)}
    given = pa.table({"p1": parts.pop("p1"), "user": list(range(N)), **parts})
    found = defend(given, NOISE, column=names)
    assert found.schema == given.schema
    assert (np.stack([found[name].to_numpy() for name in names], 1) == NOISE(p).numpy()).all()
    found = defend(given, NOISE, column=names, decimals=2)
    rows = np.stack([found[name].to_numpy() for name in names], 1)
    assert (rows == on_the_wire(NOISE, p, decimals=2).numpy()).all()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "ids",
    [
        pa.array(range(N)),
        pa.array([f"account {i}" for i in range(N)]),
        pa.array([f"account {i % 7}" for i in range(N)]).dictionary_encode(),
        pa.array([b"%d" % i for i in range(N)]),
    ],
    ids=lambda ids: str(ids.type)[:8],
)
def test_ids_are_a_column_or_given(ids: Any, p: Tensor) -> None:
    expected = NOISE(p, ids=ids.to_pylist()).numpy()
    given = table(p).append_column("account", ids)
    found = defend(given.to_reader(max_chunksize=11), NOISE, ids="account").read_all()
    assert (read(found["p"]) == expected).all() and found["account"].to_pylist() == ids.to_pylist()
    assert (read(defend(given["p"], NOISE, ids=ids.to_pylist())) == expected).all()
    dropped = defend(given, NOISE, ids="account", drop=["account", "at"])
    assert dropped.column_names == ["user", "p", "tags"]
    assert (read(dropped["p"]) == expected).all()


def test_deferred_defenses(p: Tensor, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIPOISON_KEY", "8f3a41c09b7e25d6aa10ff4c03b2957e")
    NOISE.save(tmp_path / "noise")
    deferred = mp.Deferred(tmp_path / "noise")
    assert (read(defend(table(p), deferred)["p"]) == deferred.defense(p).numpy()).all()


# What is refused.


def replaced(p: Tensor, row: int, value: Any, kind: str = "list") -> Any:
    """A table with another vector in a row."""
    rows: list[Any] = p.tolist()
    rows[row] = value
    stored = TYPES[kind]
    return table(p).set_column(1, pa.field("p", stored), pa.array(rows, stored))


@pytest.mark.parametrize("kind", ["fixed", "list", "large"])
def test_missing_vectors_and_entries_are_named(kind: str, p: Tensor) -> None:
    with pytest.raises(ValueError, match="column p without missing rows, got null in row 40;"):
        defend(replaced(p, 40, None, kind), NOISE)
    hole = [0.5, None, 0.5, 0.0, 0.0]
    kind = kind if kind != "fixed" else "double"
    with pytest.raises(ValueError, match="without missing entries, got some in row 40;"):
        defend(replaced(p, 40, hole, kind), NOISE)
    # Neither is seen outside a slice.
    assert len(defend(replaced(p, 40, None, kind).slice(41), NOISE)) == N - 41


def test_vectors_of_other_lengths_are_named(p: Tensor) -> None:
    with pytest.raises(
        ValueError, match=r"one length in column p, got K=5 in row 0 and K=2 in row 40"
    ):
        defend(replaced(p, 40, [0.5, 0.5]), Rounding(2))
    other = table(vectors(4, 3), TYPES["list"]).to_batches()
    read_later = defend([*table(p, TYPES["list"]).to_batches(), *other], Rounding(2))
    with pytest.raises(ValueError, match=r"K=5 entries, as in the batches before, got K=3"):
        read_later.read_all()


@pytest.mark.parametrize("value", [[0.5, 0.4, 0.3, 0.2, 0.1], [np.nan] * K, [-0.5, 1.5, 0, 0, 0]])
def test_rows_that_are_no_probabilities_are_named_in_the_table(value: Any, p: Tensor) -> None:
    given = replaced(p, 40, value)
    found = defend(given.to_reader(max_chunksize=16), NOISE)
    said = r"got row 8 otherwise .* \(rows are counted from row 32\)"
    with pytest.raises(ValueError, match=said):
        found.read_all()
    labels = LaplaceNoise(scale=0.05, key=1, on_invalid="label")
    rows = read(defend(given, labels)["p"])
    assert labels.failures == 1
    assert sorted({*rows[40].tolist()}) in ([0, 1], [pytest.approx(0.2)])


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.float32()),
        pa.list_(pa.float64(), 3),
        pa.fixed_shape_tensor(pa.float32(), [2, 2]),
        pa.struct([("cat", pa.float32()), ("dog", pa.float32())]),
        pa.map_(pa.string(), pa.float64()),
        pa.list_(pa.list_(pa.float16())),
        pa.list_(pa.decimal128(5, 4)),
        pa.struct([("scores", pa.list_(pa.float32()))]),
    ],
    ids=str,
)
def test_further_columns_of_fractions_are_refused(kind: Any, p: Tensor) -> None:
    given = table(p).append_column("raw", pa.nulls(N, kind))
    for data in (given, reader(given)):
        with pytest.raises(
            ValueError, match=r"no further columns of several fractions .* got raw:"
        ):
            defend(data, NOISE)
    assert defend(given, NOISE, drop="raw").schema == table(p).schema
    assert defend(given, NOISE, keep=["raw"]).schema == given.schema


@pytest.mark.parametrize(
    ("kind", "got"),
    [
        (pa.list_(pa.int32()), "list<item: int32>"),
        (pa.list_(pa.list_(pa.float32())), "list<item: list"),
        (pa.fixed_shape_tensor(pa.float32(), [2, 2]), "fixed_shape_tensor"),
        (pa.list_view(pa.float32()), "list_view"),
        (pa.float32(), "float"),
        (pa.string(), "string"),
    ],
    ids=str,
)
def test_other_types_of_columns_are_refused(kind: Any, got: str, p: Tensor) -> None:
    given = table(p).set_column(1, "p", pa.nulls(N, kind))
    with pytest.raises(TypeError, match=f"expected column p to be a list, .* got .*{got}"):
        defend(given, NOISE)


def test_wrong_arguments_are_found_before_a_row_is_read(p: Tensor) -> None:
    given = table(p)
    refused: list[tuple[type[Exception], str, dict[str, Any]]] = [
        (ValueError, "expected one column 'q', got 0; the columns are user, p", {"column": "q"}),
        (ValueError, "expected one column 'q', got 0", {"ids": "q"}),
        (ValueError, "expected one column 'q', got 0", {"drop": "q"}),
        (ValueError, "drop, keep and ids to name other columns than the vectors", {"drop": ["p"]}),
        (ValueError, "drop, keep and ids to name other columns", {"ids": "p"}),
        (ValueError, "expected the name of a column, got none", {"column": []}),
        (TypeError, "expected column user to be of float16", {"column": ["user", "at"]}),
        (TypeError, "expected the name of a column, or a list of names, got 3", {"column": 3}),
        (ValueError, r"expected decimals in \[1, 9\], got 12", {"decimals": 12}),
    ]
    for error, said, options in refused:
        with pytest.raises(error, match=said):
            defend(reader(given), NOISE, **options)
    twice = pa.Table.from_arrays([given["p"], given["p"]], ["p", "p"])
    with pytest.raises(ValueError, match="expected one column 'p', got 2"):
        defend(twice, NOISE)
    with pytest.raises(ValueError, match="each column of the classes once"):
        defend(pa.table({"a": [0.5], "b": [0.5]}), NOISE, column=["a", "b", "a"])
    with pytest.raises(TypeError, match="expected columns of one type, got double and others"):
        defend(pa.table({"a": [0.5], "b": pa.array([0.5], pa.float32())}), NOISE, column=["a", "b"])
    with pytest.raises(TypeError, match=r"expected defense .* got function"):
        defend(reader(given), lambda p: p)  # type: ignore[arg-type]
    for data in (3, "p", {"p": [[0.5, 0.5]]}, [], [3]):
        with pytest.raises(TypeError, match=r"expected (a table|record batches of pyarrow)"):
            defend(data, NOISE)


def test_ids_that_do_not_fit(p: Tensor) -> None:
    missing = table(p).append_column("account", pa.array([None, *range(N - 1)]))
    with pytest.raises(ValueError, match="column account without missing rows, got null in row 0"):
        defend(missing, NOISE, ids="account")
    with pytest.raises(ValueError, match=f"expected {N} ids, one a row, got 3"):
        defend(table(p)["p"], NOISE, ids=[1, 2, 3])
    with pytest.raises(ValueError, match="expected no ids for rounding, which has no key"):
        defend(table(p), Rounding(2), ids="user")


def test_without_pyarrow_the_import_says_what_to_install() -> None:
    done = run("import sys; sys.modules['pyarrow'] = None; import mipoison.integrations.arrow")
    assert done.returncode == 1
    assert "needs pyarrow; install it with: pip install 'mipoison[arrow]'" in done.stderr


def test_no_answer_is_no_table(p: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong, nothing that is undefended comes out."""

    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(batches, "on_the_wire", fails)
    with pytest.raises(RuntimeError, match="out of memory"):
        defend(table(p), NOISE)


def test_a_column_that_stands_alone_has_no_name(p: Tensor) -> None:
    with pytest.raises(ValueError, match="expected no column for a column that stands alone"):
        defend(column(p.numpy(), TYPES["fixed"]), NOISE, column="x")
