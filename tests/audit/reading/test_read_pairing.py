"""Vectors of another file come to their own inputs, or the order is said or doubted; and so do groups."""

import numpy as np
import pytest

from mipoison.audit.reading.read import read

ORDER = np.random.default_rng(106).permutation(320)
IDS = np.arange(1000, 1320)


@pytest.fixture
def two(x, tmp_path):
    """Reads inputs of one npz with vectors of another."""

    def reads(inputs, vectors, **options):
        np.savez(tmp_path / "x.npz", x=x, **inputs)
        np.savez(tmp_path / "v.npz", **vectors)
        return read(tmp_path / "x.npz", vectors=tmp_path / "v.npz", **options)

    return reads


def groups_are(found, wanted):
    pairs = set(zip(found.groups.tolist(), wanted.tolist(), strict=True))
    return len(pairs) == len(set(wanted.tolist())) == len(found.groups.unique())


@pytest.mark.parametrize("kind", [int, float, str, bytes, "datetime64[s]"])
def test_arrays_are_matched_by_a_key(kind, p, two):
    own = IDS.astype(kind) if kind == "datetime64[s]" else IDS
    found = two({"id": own}, {"p": p[ORDER], "id": IDS[ORDER].astype(kind)})
    assert abs(found.outputs.numpy() - p).max() < 1e-6
    assert found.notes == (
        "the vectors of v.npz were given to the inputs by their id: 320 of 320 have one",
    )


def test_inputs_without_a_vector_are_named(x, p, two):
    kept = ORDER[ORDER != 7]
    found = two({"id": IDS}, {"p": p[kept], "id": IDS[kept]})
    assert [(one.name, one.reason) for one in found.skipped] == [("row 7", "no vector")]
    assert abs(found.outputs.numpy() - np.delete(p, 7, 0)).max() < 1e-6
    assert np.array_equal(found.inputs.numpy(), np.delete(x.reshape(320, -1), 7, 0))
    with pytest.raises(ValueError, match=r"p: expected values of id .*such as 1000, 1001, got 1,"):
        two({"id": IDS}, {"p": p, "id": np.arange(1, 321)})


def test_an_order_is_said_confirmed_or_doubted(p, two):
    """A column that repeats values is no key, and can yet show that the order is another."""
    said = "the vectors of v.npz were given to the inputs in their order"
    assert two({}, {"p": p, "id": IDS}).notes == (said,)
    answer = p.argmax(1)
    found = two({"answer": answer}, {"p": p, "answer": answer})
    assert found.notes == (f"{said}, as the equal values of answer confirm",)
    with pytest.raises(
        ValueError, match=r"p: expected the vectors in the order .* values of answer"
    ):
        two({"answer": answer}, {"p": p[ORDER], "answer": answer[ORDER]})


def test_groups_beside_the_vectors(p, two):
    people = np.arange(320) // 2
    for name, option in (("groups", None), ("groups", "groups"), ("person", "person")):
        assert groups_are(two({}, {"p": p, name: people}, group=option), people)
    # They come to the inputs as the vectors do.
    given = {"p": p[ORDER], "id": IDS[ORDER], "groups": people[ORDER]}
    assert groups_are(two({"id": IDS}, given), people)
    assert groups_are(two({"id": IDS, "groups": people}, given), people)
    with pytest.raises(ValueError, match=r"group: expected the groups of x\.npz and v\.npz"):
        two({"id": IDS, "groups": people + 1}, given)
    with pytest.raises(ValueError, match=r"groups: expected one value for each of 320 vectors"):
        two({}, {"p": p, "groups": people[:9]})
    for place in ({"groups": np.r_[np.nan, people[1:]]}, {}):
        vectors = {"p": p, **({} if place else {"groups": np.r_[np.nan, people[1:]]})}
        with pytest.raises(ValueError, match=r"groups: expected a group of each row, .*row 0;"):
            two(place, vectors)


@pytest.fixture
def tables(tmp_path):
    """Reads people of a CSV with vectors of a Parquet."""
    pa = pytest.importorskip("pyarrow")
    csv = pytest.importorskip("pyarrow.csv")
    parquet = pytest.importorskip("pyarrow.parquet")
    rng = np.random.default_rng(107)
    people = {"age": rng.integers(17, 90, 320), "height": rng.normal(1.7, 0.1, 320)}

    def reads(inputs, vectors, **options):
        csv.write_csv(pa.table({**inputs, **people}), tmp_path / "people.csv")
        parquet.write_table(pa.table(vectors), tmp_path / "p.parquet")
        return read(tmp_path / "people.csv", vectors=tmp_path / "p.parquet", **options)

    return reads


def test_tables_are_matched_by_a_key(p, tables):
    classes = {f"p_{k}": p[ORDER, k] for k in range(4)}
    found = tables({"id": IDS}, {"id": IDS[ORDER], **classes}, leave_out=["id"])
    assert abs(found.outputs.numpy() - p).max() < 1e-6
    assert any("by their id: 320 of 320" in note for note in found.notes)
    kept = {name: values[ORDER != 7] for name, values in {"id": IDS[ORDER], **classes}.items()}
    found = tables({"id": IDS}, kept, leave_out=["id"])
    assert [(one.name, one.reason) for one in found.skipped] == [("row 7", "no vector")]
    assert abs(found.outputs.numpy() - np.delete(p, 7, 0)).max() < 1e-6
    # The index of a data frame is no key: that of answers is often counted anew.
    index = {"Unnamed: 0": np.arange(320), **{f"p_{k}": p[:, k] for k in range(4)}}
    found = tables({"Unnamed: 0": ORDER}, index)
    assert abs(found.outputs.numpy() - p).max() < 1e-6
    assert any("in their order" in note for note in found.notes)


def test_groups_in_the_table_of_the_vectors(p, tables):
    people = [f"{i // 2}" for i in range(320)]
    vectors = {"person": people, **{f"p_{k}": p[:, k] for k in range(4)}}
    assert groups_are(tables({}, vectors, group="person"), np.arange(320) // 2)
    with pytest.raises(ValueError, match=r"person: expected a group of each row, .*row 5;"):
        tables({}, {**vectors, "person": [*people[:5], None, *people[6:]]}, group="person")


@pytest.fixture
def frames(x, tmp_path):
    """Reads two columns of inputs of one table with vectors of another."""
    pandas = pytest.importorskip("pandas")

    def reads(inputs, p, vectors, kind="csv", index=False, order=ORDER):
        rows = x.reshape(320, -1)[:, :2]
        own = pandas.DataFrame({"a": rows[:, 0], "b": rows[:, 1], **inputs})
        theirs = pandas.DataFrame({f"p_{j}": p[:, j] for j in range(4)} | vectors).iloc[order]
        paths = [tmp_path / f"{name}.{kind}" for name in ("x", "v")]
        for frame, path in zip((own, theirs), paths, strict=True):
            save = frame.to_csv if kind == "csv" else frame.to_parquet
            save(path, index=index)
        found = read(paths[0], vectors=paths[1], leave_out=tuple(inputs))
        return found, own

    return reads


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize(
    "change",
    [
        lambda ids: ids.astype(float),
        lambda ids: [f"u{i}" for i in ids],
        lambda ids: np.array(ids, "datetime64[s]"),
        lambda ids: [None if i == 1004 else float(i) for i in ids],
    ],
)
def test_columns_of_any_kind_are_keys(change, kind, p, frames):
    found, own = frames({"id": change(IDS)}, p, {"ID": change(IDS)}, kind)
    missing = own["id"].isna().to_numpy()
    assert len(found) == 320 - missing.sum()
    assert abs(found.outputs.numpy() - p[~missing]).max() < 1e-6
    assert [one.name for one in found.skipped] == ["row 4"] * int(missing.sum())


def test_categories_are_keys(p, frames):
    pandas = pytest.importorskip("pandas")
    names = pandas.Categorical([f"u{i}" for i in IDS])
    found, _ = frames({"id": names}, p, {"id": names}, "parquet")
    assert abs(found.outputs.numpy() - p).max() < 1e-6


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_an_index_that_was_not_counted_anew_is_a_key(kind, p, frames):
    found, _ = frames({}, p, {}, kind, index=True)
    assert abs(found.outputs.numpy() - p).max() < 1e-6
    assert any("by their row index" in note for note in found.notes)
    found, _ = frames({}, p, {}, kind, index=True, order=np.arange(320))
    assert abs(found.outputs.numpy() - p).max() < 1e-6


def test_several_vectors_of_one_row_are_refused(p, two):
    again = np.append(ORDER, ORDER[0])
    with pytest.raises(ValueError, match=rf"one vector for each id.*several for {IDS[ORDER[0]]}"):
        two({"id": IDS}, {"p": p[again], "id": IDS[again]})


def test_zeros_before_some_values_are_told(p, two):
    """Of numbers from 800 to 1119 those from 1000 on match as they are."""
    plain = IDS - 200
    padded = np.array([f"{one:04}" for one in plain])
    with pytest.raises(ValueError, match=r"id that are written alike .*, got 800 and 0800; write"):
        two({"id": plain}, {"p": p, "id": padded})
    found = two({"id": padded}, {"p": p, "id": padded})
    assert len(found) == 320


def test_fractions_are_no_key(p, two):
    found = two({"id": IDS / 7}, {"p": p, "id": IDS[ORDER] / 7})
    assert "in their order" in found.notes[0]
