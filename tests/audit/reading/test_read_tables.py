"""People in CSV and Parquet files, and embeddings in list columns."""

import numpy as np
import pytest
import torch

from mipoison.audit.reading import found
from mipoison.audit.reading.read import read

pa = pytest.importorskip("pyarrow")
pytest.importorskip("pyarrow.csv")
pytest.importorskip("pyarrow.parquet")


def changed(columns, name, rows, value):
    values = list(columns[name])
    for row in rows:
        values[row] = value
    return {**columns, name: values}


@pytest.mark.parametrize("name", ["people.csv", "people.parquet"])
def test_people(name, people, p, write):
    read_back = read(write(people, name), group="person", categorical=["region"])
    assert read_back.kind == "table" and read_back.image_shape is None and not read_back.notes
    assert read_back.classes == ("w", "x", "y", "z")
    torch.testing.assert_close(read_back.outputs, torch.from_numpy(p), rtol=0, atol=1e-6)
    columns = {column.name: column for column in read_back.columns}
    assert list(columns) == ["age", "job", "height", "region", "married"]
    assert [column.first for column in read_back.columns] == [0, 1, 4, 5, 9]
    assert columns["job"].categories == ("baker", "smith", "teacher")
    assert columns["region"].categories == ("10", "20", "30", "40")
    assert columns["married"].categories == ("false", "true")
    inputs = read_back.inputs.double().numpy()
    assert inputs.shape == (320, 11)
    # What was there comes back from the inputs.
    for number in ("age", "height"):
        column = columns[number]
        values = inputs[:, column.first] * column.scale + column.mean
        np.testing.assert_allclose(values, people[number], rtol=1e-5)
        assert abs(inputs[:, column.first].std() - 1) < 1e-5
    for category in ("job", "region", "married"):
        column = columns[category]
        hot = inputs[:, column.first : column.first + column.width]
        assert bool((hot.sum(1) == 1).all())
        said = np.array(column.categories)[hot.argmax(1)]
        assert list(said) == [str(value).lower() for value in people[category]]


def test_rows_with_missing_values_are_skipped_and_named(people, write):
    columns = changed(people, "job", [3, 17], None)
    columns = changed(columns, "age", [17], None)
    columns = changed(columns, "p_w", [5], None)
    columns = changed(columns, "height", [8], float("nan"))
    for name in ("people.csv", "people.parquet"):
        read_back = read(write(columns, name), group="person")
        assert [(one.name, one.reason) for one in read_back.skipped] == [
            ("row 3", "job missing"),
            ("row 5", "p_w missing"),
            ("row 8", "height missing"),
            ("row 17", "age, job missing"),
        ]
        assert len(read_back) == 316


def test_skipped_rows_take_their_own_vectors_with_them(people, p, write, tmp_path):
    np.save(tmp_path / "p.npy", p)
    path = write(changed(people, "job", [3, 17], None))
    read_back = read(path, group="person", vectors=tmp_path / "p.npy")
    assert abs(read_back.outputs.numpy() - np.delete(p, [3, 17], 0)).max() < 1e-6
    assert len(read_back.columns) == 9 and "taken for attributes" in read_back.notes[0]
    np.save(tmp_path / "p.npy", np.delete(p, [3, 17], 0))
    with pytest.raises(ValueError, match=r"as many vectors as rows, got 318 and 320"):
        read(path, group="person", vectors=tmp_path / "p.npy")


def test_texts_that_stand_for_missing_values(people, write):
    path = write(
        {**people, "age": ["?" if i == 4 else str(v) for i, v in enumerate(people["age"])]}
    )
    with pytest.raises(ValueError, match=r"column age of .* such as [?]; --missing"):
        read(path, group="person")
    read_back = read(path, group="person", missing=["?"])
    assert [one.name for one in read_back.skipped] == ["row 4"]
    assert read_back.columns[0].categories == ()
    as_text = write(
        {**people, "region": [str(value) for value in people["region"]]}, "text.parquet"
    )
    with pytest.raises(ValueError, match=r"column region .* got numbers as text"):
        read(as_text, group="person")
    read_back = read(as_text, group="person", categorical=["region"])
    assert read_back.columns[3].categories == ("10", "20", "30", "40")


def test_columns_that_are_left_out(people, write):
    path = write({**people, "planet": ["earth"] * 320, "sick": [0, 1] * 160})
    read_back = read(path, leave_out=["job", "married"])
    assert [column.name for column in read_back.columns] == [
        "person",
        "age",
        "height",
        "region",
        "sick",
    ]
    said = " ".join(read_back.notes)
    assert "person rises or falls" in said and "left out: planet" in said
    assert "taken as numbers: sick;" in said


def test_an_index_is_no_attribute(people, tmp_path):
    frames = pytest.importorskip("pandas")
    frame = frames.DataFrame(people)
    frame.to_csv(tmp_path / "index.csv")
    frame.sort_values("age").to_parquet(tmp_path / "index.parquet")
    for name in ("index.csv", "index.parquet"):
        read_back = read(tmp_path / name, group="person")
        assert len(read_back.columns) == 5 and "numbers of the rows" in read_back.notes[0]


def test_groups_and_copies(people, write):
    columns = {**people, "person": np.arange(320) // 4}
    same = {
        name: np.where(np.arange(320) == 9, values[0], values) for name, values in people.items()
    }
    same = {**same, "person": columns["person"]}
    assert len(read(write(columns), group="person").groups.unique()) == 80
    joined = read(write(same), group="person").groups
    assert len(joined.unique()) == 79 and joined[9] == joined[0] == joined[11] == joined[3]


def test_lists_and_own_files(people, p, write, tmp_path):
    plain = {name: values for name, values in people.items() if not name.startswith("p_")}
    lists = write({**plain, "answer": list(p)}, "lists.parquet")
    np.save(tmp_path / "p.npy", p)
    own = [
        {"vectors_name": "answer"},
        {"vectors": tmp_path / "p.npy", "leave_out": ["answer"]},
        {"vectors": write({"a": p[:, 0], "b": p[:, 1], "c": p[:, 2], "d": p[:, 3]}, "p.csv")},
    ]
    for options in own:
        path = write(plain) if len(options) == 1 and "vectors" in options else lists
        read_back = read(path, group="person", **options)
        assert abs(read_back.outputs.numpy() - p).max() < 1e-6
        assert len(read_back.columns) == 5
    assert read_back.classes == ("a", "b", "c", "d") and read_back.source == "people.csv with p.csv"


def test_embeddings_in_a_list_column(logits, p, write):
    columns = {"e": list(logits), "p": list(p), "text": [str(i) for i in range(320)]}
    read_back = read(write(columns, "text.parquet"))
    assert read_back.kind == "embeddings" and read_back.inputs.shape == (320, 4)
    assert read_back.notes == ("columns beside the embeddings were not looked at: text",)
    two = write({**columns, "f": list(logits)}, "two.parquet")
    with pytest.raises(ValueError, match=r"inputs_name: .* got e, f"):
        read(two)
    assert read(two, inputs_name="f").inputs.shape == (320, 4)
    short = changed({**columns, "e": [list(row) for row in logits]}, "e", [7], [1.0])
    with pytest.raises(ValueError, match=r"short\.parquet: .* one length in column e"):
        read(write(short, "short.parquet"))
    with pytest.raises(ValueError, match=r"categorical: expected attributes of .*got text"):
        read(write(columns, "text.parquet"), categorical=["text"])
    with pytest.raises(ValueError, match=r"missing: expected none for text\.parquet"):
        read(write(columns, "text.parquet"), missing=["?"])
    gap = changed({**columns, "e": [list(row) for row in logits]}, "e", [7], None)
    assert [one.name for one in read(write(gap, "gap.parquet")).skipped] == ["row 7"]


def test_long_tables_are_drawn_from(people, p, write, monkeypatch):
    monkeypatch.setattr(found, "MOST_ROWS", 305)
    keep = found.sampled(320, 1, [])
    for name in ("people.csv", "people.parquet"):
        read_back = read(write(changed(people, "age", [int(keep[4])], None), name), group="person")
        assert [one.name for one in read_back.skipped] == [f"row {keep[4]}"]
        assert abs(read_back.outputs.numpy() - p[np.delete(keep, 4)]).max() < 1e-6


def test_separators_and_byte_order_marks(people, write):
    path = write(people)
    text = path.read_text()
    wanted = read(path, group="person").inputs
    path.write_text("\ufeff" + text.replace(",", ";"), encoding="utf-8")
    assert bool((read(path, group="person").inputs == wanted).all())
    # As a German spreadsheet writes it.
    path.write_text(text.replace(",", ";").replace(".", ","), encoding="utf-8")
    assert bool((read(path, group="person").inputs == wanted).all())
    names, _, rows = text.partition("\n")
    spaced = names.replace('"', "").replace(",", ", ")
    path.write_text("\n".join((spaced, rows)))
    assert bool((read(path, group="person").inputs == wanted).all())
    tabs = path.with_suffix(".tsv")
    tabs.write_text(text.replace(",", "\t"))
    assert bool((read(tabs, group="person").inputs == wanted).all())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"leave_out": ["jobs"]}, "leave_out: .* got jobs; did you mean job?"),
        ({"categorical": ["x"]}, "categorical: expected a name out of person, age.*got x"),
        ({"group": "who"}, "group: expected a name"),
        ({"vectors_name": "q"}, "vectors_name: expected a name"),
        ({"vectors_name": "job"}, "expected column job of numbers, got texts such as"),
        ({"vectors_name": "age"}, "whole number a row, which are labels"),
        ({"vectors_prefix": "q_"}, "vectors_prefix: .*begin with q_"),
        ({"vectors_prefix": "p"}, "whole number|probability vectors"),
        ({"shape": "2,2"}, "shape: expected none for people.csv"),
        ({"inputs_name": "age"}, "inputs_name: expected a column of lists.* got age of int64"),
        ({"group": "p_w"}, "group: expected a column of people.csv beside the vectors, got p_w"),
        ({"leave_out": ["p_w"]}, "leave_out: expected a column .* beside the vectors, got p_w"),
        ({"categorical": ["p_w"]}, "categorical: expected attributes of .*, got p_w"),
        ({"categorical": ["person"], "group": "person"}, "categorical: .*, got person"),
        ({"categorical": ["height"]}, "different values in the categorical column height"),
    ],
)
def test_wrong_options(options, said, people, write):
    with pytest.raises(ValueError, match=said) as told:
        read(write(people), **options)
    assert "\n" not in str(told.value)


def test_vectors_that_are_texts_show_which(people, write, tmp_path):
    told = [f"{share}%" for share in ("12.5", "62.5", "25")]
    path = tmp_path / "vectors.csv"
    path.write_text("\n".join(["p_a,p_b,p_c", "0.1,0.4,0.5", *[",".join(told)] * 399]))
    with pytest.raises(ValueError, match=r"column p_a of numbers, got texts such as 12.5%; write"):
        read(write(people), vectors=path)


def test_wrong_files(people, write, tmp_path):
    path = write(people)
    text = path.read_text()
    cases = {
        "": "expected CSV in UTF-8",
        text + "1,2\n": "expected CSV in UTF-8.*Expected 10 columns, got 2",
        text.replace("married", "age", 1): "several called age",
        "\n".join(text.splitlines()[:200]): "at least 300 rows.*got 199",
        text.replace("p_", "q_"): "vectors: expected the vectors of people.csv, got columns person",
    }
    for content, said in cases.items():
        path.write_text(content)
        with pytest.raises(ValueError, match=said) as told:
            read(path)
        assert "\n" not in str(told.value)
    for encoded in (
        text.encode("utf-16"),
        text.replace("baker", "bäcker").encode("latin1"),
        text.replace("age", "âge").encode("latin1"),
    ):
        path.write_bytes(encoded)
        with pytest.raises(ValueError, match=r"people\.csv: expected CSV in UTF-8") as told:
            read(path)
        assert "\n" not in str(told.value)
    (tmp_path / "people.parquet").write_text(text)
    with pytest.raises(ValueError, match=r"people\.parquet: expected Parquet"):
        read(tmp_path / "people.parquet")


def test_wrong_columns(people, write):
    empty = {**people, "age": pa.nulls(320)}
    with pytest.raises(
        ValueError, match=r"got 0: age is missing in 100% of the rows; .*--leave-out age"
    ):
        read(write(empty, "people.parquet"))
    dates = {**people, "born": pa.array(np.arange(320).astype("datetime64[D]"))}
    with pytest.raises(ValueError, match=r"column born of numbers.*--leave-out born"):
        read(write(dates))
    endless = changed(people, "height", [6], np.inf)
    with pytest.raises(ValueError, match=r"infinite ones in row 6"):
        read(write(endless, "people.parquet"), group="person")
    alike = {"age": [3] * 320, **{name: people[name] for name in people if name[:2] == "p_"}}
    with pytest.raises(ValueError, match=r"the same in every row"):
        read(write(alike))
    names = {**people, "name": [f"person {i}" for i in range(320)]}
    with pytest.raises(ValueError, match=r"column name, got 320.*--leave-out name"):
        read(write(names))
