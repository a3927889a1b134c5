"""Every mistake in the data is told in one line that says what was expected, what came and what to do."""

import pickle
import sys
import zipfile

import numpy as np
import pytest

from mipoison.audit.reading import found
from mipoison.audit.reading.read import read


def with_nan(values, row):
    broken = values.copy()
    broken[row, 0] = np.nan
    return broken


def scaled(values, row):
    broken = values.copy()
    broken[row] *= 0.7
    return broken


MISTAKES = {
    "fewer vectors": (lambda x, p: {"x": x, "p": p[:-1]}, "p: expected as many .* 319 and 320"),
    "transposed": (lambda x, p: {"x": x, "p": p.T}, r"transposed; save its transpose"),
    "sums": (lambda x, p: {"x": x, "p": scaled(p, 7)}, r"1 of 320 rows .*row 7 \(.*sum is 0\.7\)"),
    "logits": (lambda x, p: {"x": x, "p": np.log(p)}, "smallest entry is -.*--logits"),
    "sigmoids": (lambda x, p: {"x": x, "p": np.sqrt(p) * 0.9}, "separate sigmoids"),
    "nan inputs": (lambda x, p: {"x": with_nan(x, 9), "p": p}, "x: expected finite .* row 9;"),
    "nan embeddings": (
        lambda x, p: {"x": with_nan(x.reshape(len(x), -1), 9), "p": p},
        "x: expected finite inputs.* row 9;",
    ),
    "nan vectors": (lambda x, p: {"x": x, "p": with_nan(p, 9)}, "p: expected finite .* row 9;"),
    "constant": (lambda x, p: {"x": 0 * x, "p": p}, "the same in every row"),
    "one class": (
        lambda x, p: {"x": x, "p": np.sort(p, 1)},
        r"got class 3 \(from 0\) on top in all rows",
    ),
    "one-hot": (
        lambda x, p: {"x": x, "p": (p == p.max(1, keepdims=True)).astype(np.float32)},
        "nothing to audit beyond the label",
    ),
    "few": (lambda x, p: {"x": x[:299], "p": p[:299]}, "at least 300 rows, .* got 299"),
    "labels": (lambda x, p: {"x": x, "p": p.argmax(1)}, "one whole number a row.* labels"),
    "names of labels": (lambda x, p: {"x": x, "p": p.argmax(1).astype(str)}, "numbers.* got text"),
    "names": (lambda x, p: {"pixels": x, "p": p}, "inputs_name: .*got p, pixels; .*--inputs-name"),
    "no vectors": (lambda x, p: {"x": x}, "vectors: expected the vectors of mine.npz.*--model"),
    "vectors' name": (lambda x, p: {"x": x, "q": p}, "vectors_name: .*got q, x; .*--vectors-name"),
    "empty": (lambda x, p: {"x": x[:0], "p": p[:0]}, "at least 300 rows"),
    "complex": (lambda x, p: {"x": x + 1j, "p": p}, "real numbers, got complex64"),
    "text": (lambda x, p: {"x": x.astype(str), "p": p}, "text goes in as its embeddings"),
    "range": (lambda x, p: {"x": x * 300, "p": p}, r"pixels in \[0, 1\].* from 0\.\d+ to 29\d"),
    "dimensions": (lambda x, p: {"x": x[:, 0, 0], "p": p}, r"got \[320\]"),
    "channels": (lambda x, p: {"x": x.reshape(320, 6, 1, 6), "p": p}, None),
    "five channels": (
        lambda x, p: {"x": np.repeat(x[..., None], 5, 3), "p": p},
        r"1 or 3 channels, got \[320, 6, 6, 5\]",
    ),
    "overshoot": (lambda x, p: {"x": x * 1.01, "p": p}, r"\[0, 255\], got numbers from .* to 1\.0"),
    "groups": (lambda x, p: {"x": x, "p": p, "groups": np.arange(5)}, r"groups: .* got \[5\]"),
    "one group": (lambda x, p: {"x": x, "p": p, "groups": np.arange(320) % 9}, "got 9 .9 before"),
    "classes": (lambda x, p: {"x": x, "p": p, "classes": list("ab")}, "expected 4 names.* got 2"),
    "objects": (lambda x, p: {"x": x, "p": np.array([*p, None], object)[:-1]}, "p: .* unpickling"),
}


@pytest.mark.parametrize("name", [name for name, (_, said) in MISTAKES.items() if said])
def test_mistakes_in_an_npz(name, x, p, save):
    make, said = MISTAKES[name]
    with pytest.raises(ValueError, match=said) as told:
        read(save(**make(x, p)))
    assert "\n" not in str(told.value)
    assert "expected" in str(told.value) and "got" in str(told.value)


class Exploit:
    """Touches a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_nothing_is_unpickled(x, p, tmp_path):
    touched = tmp_path / "touched"
    hidden = np.empty(320, object)
    hidden[:] = Exploit(touched)
    np.savez(tmp_path / "mine.npz", x=x, p=p, y=hidden)
    with pytest.raises(ValueError, match=r"y: .* objects"):
        read(tmp_path / "mine.npz")
    (tmp_path / "mine.npy").write_bytes(pickle.dumps(Exploit(touched)))
    with pytest.raises(ValueError, match=r"mine\.npy: expected"):
        read(tmp_path / "mine.npy", vectors=tmp_path / "mine.npz")
    assert not touched.exists()


def test_objects_beside_what_is_read_do_no_harm(x, p, save):
    assert len(read(save(x=x, p=p, remarks=np.array([None, {}], object)))) == 320


def test_tables_need_an_extra(x, p, save, tmp_path, monkeypatch):
    (tmp_path / "p.csv").write_text("p_0,p_1\n")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for module in ("columns", "files", "inputs"):
        monkeypatch.delitem(sys.modules, f"mipoison.audit.reading.tables.{module}", raising=False)
    for given in (
        {"inputs": tmp_path / "p.csv"},
        {"inputs": save(x=x), "vectors": tmp_path / "p.csv"},
    ):
        with pytest.raises(ValueError, match=r"p\.csv: .* need pyarrow.*mipoison\[arrow\]"):
            read(**given)


def test_damaged_files(x, p, save, tmp_path):
    whole = save(x=x, p=p).read_bytes()
    for broken in (b"", b"x,p\n1,2\n", whole[: len(whole) // 2]):
        (tmp_path / "mine.npz").write_bytes(broken)
        with pytest.raises(ValueError, match=r"mine\.npz: expected an npz .*damaged or none"):
            read(tmp_path / "mine.npz")
    # Its list of arrays is whole, and the arrays are not.
    with zipfile.ZipFile(tmp_path / "mine.npz", "w") as archive:
        np.save(tmp_path / "x.npy", x)
        archive.writestr("x.npy", (tmp_path / "x.npy").read_bytes()[:-9])
        archive.write(tmp_path / "x.npy", "p.npy")
    with pytest.raises(ValueError, match=r"mine\.npz: .*ends too early"):
        read(tmp_path / "mine.npz")


def headed(shape, data=b""):
    """An npy with a header of any shape."""
    said = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(said).to_bytes(2, "little") + said.encode() + data


@pytest.mark.parametrize("shape", ["(10**13,)", "(10000000000000, 12)", "(400, True)", "(-1, 4)"])
@pytest.mark.parametrize("name", ["x", "groups", "classes"])
def test_headers_that_promise_what_is_not_there(shape, name, x, p, save):
    path = save(**{key: one for key, one in {"x": x, "p": p}.items() if key != name})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"{name}.npy", headed(shape, bytes(3200)))
    with pytest.raises(ValueError, match=r"mine\.npz: expected .* damaged or none") as told:
        read(path)
    assert "\n" not in str(told.value)


def test_members_that_are_encrypted_or_no_arrays(x, p, save):
    path = save(x=x, p=p)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("README.txt", "not an array")
    assert len(read(path)) == 320
    # The first bit of a member's flags says that it is encrypted.
    whole = bytearray(path.read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        whole[whole.index(mark) + place] |= 1
    path.write_bytes(whole)
    with pytest.raises(ValueError, match=r"mine\.npz: expected an npz .*encrypted"):
        read(path)


def test_drawing_takes_no_memory_of_all_rows():
    """The positions of 10^13 rows would be 80 TB."""
    keep = found.sampled(10**13, 12, [])
    assert len(keep) == found.MOST_ROWS and bool((np.diff(keep) > 0).all())


def test_wrong_calls(x, p, save, tmp_path):
    path = save(x=x, p=p)
    with pytest.raises(ValueError, match=r"model: expected vectors or"):
        read(path, vectors=path, model="a:b")
    with pytest.raises(FileNotFoundError, match=r"inputs: expected a file or folder"):
        read(tmp_path / "none.npz")
    with pytest.raises(FileNotFoundError, match=r"vectors: expected a file .* found a folder"):
        read(path, vectors=tmp_path)
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(ValueError, match=r"inputs: expected a folder of pictures .*got x\.txt"):
        read(tmp_path / "x.txt")
    with pytest.raises(ValueError, match=r"vectors: expected a file .*got x\.txt"):
        read(path, vectors=tmp_path / "x.txt")
    with pytest.raises(ValueError, match=r"categorical: expected none for"):
        read(path, categorical=["age"])
    with pytest.raises(ValueError, match=r"size: expected 1 or 2 whole numbers"):
        read(path, size="big")
    with pytest.raises(ValueError, match=r"shape: expected the shape of one row .*\[6, 6\]"):
        read(path, shape="5,5")
    with pytest.raises(ValueError, match=r"group: .*got p, x"):
        read(path, group="person")
    with pytest.raises(ValueError, match=r"vectors_prefix: expected none for mine\.npz"):
        read(path, vectors_prefix="zzz")
    with pytest.raises(ValueError, match=r"vectors_prefix: expected none beside vectors_name p"):
        read(path, vectors_name="p", vectors_prefix="zzz")
    with pytest.raises(ValueError, match=r"vectors_name: expected none for mine\.npz"):
        read(path, model="a:b", vectors_name="p")
    np.save(tmp_path / "x.npy", x)
    for option in ("inputs_name", "group"):
        with pytest.raises(ValueError, match=rf"{option}: expected none for x\.npy"):
            read(tmp_path / "x.npy", vectors=path, **{option: "nope"})
    np.save(tmp_path / "p.npy", p)
    with pytest.raises(ValueError, match=r"vectors_name: expected none for p\.npy"):
        read(path, vectors=tmp_path / "p.npy", vectors_name="nope")


def test_long_texts_are_cut_in_messages():
    from mipoison.audit.reading.found import listed

    assert listed(["short", "x" * 500]) == f"short, {'x' * 60}…"
