"""The file format: settings and tensors, nothing else, and a clear answer to another file."""

from __future__ import annotations

import io
import math
import os
import stat
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save, save_file

from mipoison.defenses import storage

SETTINGS = {"epsilon": 0.1 + 0.2, "norm": "l1", "threshold": None, "shape": [3, 4], "text": "ε"}
TENSORS = {
    "bank.vectors": torch.rand(4, 3),
    "bank.more": torch.rand(4, 6)[:, ::2],
    "bankrupt": torch.arange(3),
    "classes": torch.tensor(7),
}


def test_save_and_load_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    storage.save(path, "LPA", SETTINGS, TENSORS)
    kind, settings, tensors, where = storage.load(path)
    assert (kind, where) == ("LPA", str(path))
    assert settings == SETTINGS and tensors.keys() == TENSORS.keys()
    for name, value in TENSORS.items():
        assert torch.equal(tensors[name], value) and tensors[name].dtype == value.dtype
    with safe_open(str(path), framework="pt") as file:
        assert file.metadata().keys() == {"mipoison", "format", "settings", "digest"}


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    save_file({"x": torch.zeros(1)}, str(path))
    with pytest.raises(ValueError, match="got no mipoison defense"):
        storage.load(path)


@pytest.mark.parametrize("other", ["1", "3"])
def test_another_format_is_refused(tmp_path: Path, other: str) -> None:
    path = tmp_path / "file.safetensors"
    save_file({}, str(path), metadata={"mipoison": "LPA", "format": other, "settings": "{}"})
    with pytest.raises(ValueError, match=f"expected format 2 in .*, got {other}: another version"):
        storage.load(path)


@pytest.mark.parametrize(
    "content", [b"", b"not a file of tensors", bytes(64)], ids=["empty", "text", "zeros"]
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file.safetensors"
    path.write_bytes(content)
    for file in (path, io.BytesIO(content)):
        with pytest.raises(ValueError, match="expected a file saved by a mipoison defense"):
            storage.load(file)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    storage.save(path, "LPA", SETTINGS, TENSORS)
    whole = path.read_bytes()
    for length in (4, 8, 40, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="expected a file saved by a mipoison defense"):
            storage.load(path)


def forged(settings: str) -> bytes:
    """A file of the kind Swap with these settings, and a digest that fits."""
    tensors = {"a": torch.zeros(1)}
    metadata = {"mipoison": "Swap", "format": str(storage._FORMAT), "settings": settings}
    metadata["digest"] = storage._digest("Swap", settings, tensors)
    return save(tensors, metadata=metadata)


@pytest.mark.parametrize("settings", ["", "{", "[1]", "7"])
def test_settings_that_are_none_are_refused(settings: str) -> None:
    with pytest.raises(ValueError, match=r"expected the settings of a defense in "):
        storage.load(io.BytesIO(forged(settings)))


def test_a_bit_that_flips_anywhere_is_found() -> None:
    file = io.BytesIO()
    storage.save(file, "LPA", SETTINGS, TENSORS)
    whole = file.getvalue()
    places = torch.randperm(8 * len(whole), generator=torch.Generator().manual_seed(1))[:1000]
    for place in places.tolist():
        other = bytearray(whole)
        other[place // 8] ^= 1 << place % 8
        with pytest.raises(ValueError, match=r"^expected"):
            storage.load(io.BytesIO(other))


def test_the_longest_name_is_saved(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)
    storage.save(path, "Swap", {}, {})
    assert storage.load(path).kind == "Swap" and len(list(tmp_path.iterdir())) == 1


def test_infinities_round_trip() -> None:
    file = io.BytesIO()
    numbers = [math.inf, -math.inf, 0.1 + 0.2, 5e-324, -0.0, 2**60, None, True]
    storage.save(file, "LPA", {"numbers": numbers}, {})
    file.seek(0)
    found = storage.load(file).settings["numbers"]
    assert list(map(repr, found)) == list(map(repr, numbers))


def test_file_objects_are_used_at_their_position() -> None:
    file = io.BytesIO()
    file.write(b"before")
    storage.save(file, "LPA", SETTINGS, TENSORS)
    file.seek(6)
    assert torch.equal(storage.load(file).tensors["bank.vectors"], TENSORS["bank.vectors"])
    with pytest.raises(ValueError, match=r"rewind it with file\.seek\(0\)"):
        storage.load(file)


class Dribble(io.RawIOBase):
    """Takes seven bytes at a time, up to a limit, as a pipe does."""

    def __init__(self, limit: int, full: int | None = None) -> None:
        self.data, self.limit, self.full = bytearray(), limit, full

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int | None:  # type: ignore[override]
        taken = bytes(data)[: min(7, self.limit - len(self.data))]
        self.data += taken
        return len(taken) or self.full


def test_an_unbuffered_file_takes_everything_or_says_so() -> None:
    slow = Dribble(1 << 20)
    storage.save(slow, "LPA", SETTINGS, TENSORS)
    kind, settings, tensors, _ = storage.load(io.BytesIO(slow.data))
    assert (kind, settings) == ("LPA", SETTINGS)
    assert all(torch.equal(tensors[name], x) for name, x in TENSORS.items())
    for full in (0, None):
        with pytest.raises(OSError, match="got no room after 50; what is written there is incomp"):
            storage.save(Dribble(50, full), "LPA", SETTINGS, TENSORS)


def test_a_writer_that_tells_no_count_is_believed() -> None:
    class Silent:
        data = b""

        def write(self, data: bytes) -> None:
            self.data += data

    file = Silent()
    storage.save(file, "LPA", SETTINGS, TENSORS)  # type: ignore[arg-type]
    assert storage.load(io.BytesIO(file.data)).kind == "LPA"


def test_any_bytes_are_read() -> None:
    class Reader:
        def __init__(self, given: object) -> None:
            self.given = given

        def read(self) -> object:
            return self.given

    file = io.BytesIO()
    storage.save(file, "LPA", SETTINGS, TENSORS)
    for kind in (bytes, bytearray, memoryview):
        assert storage.load(Reader(kind(file.getvalue()))).kind == "LPA"
    with pytest.raises(TypeError, match="expected bytes from a Reader, got NoneType"):
        storage.load(Reader(None))


@pytest.mark.parametrize(
    ("path", "error", "said"),
    [
        ("", ValueError, "expected file to be a path, got ''"),
        ("a\0b", ValueError, "expected file to be a path, got 'a"),
        ("new/", IsADirectoryError, "expected a path to write a file to, got the folder"),
    ],
)
def test_a_path_of_no_file_is_refused(
    path: str, error: type[Exception], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=said):
        storage.save(path, "LPA", {}, {})
    assert not list(tmp_path.iterdir())


def test_files_of_text_and_other_things_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"opened for bytes \(mode 'wb'\), got a StringIO"):
        storage.save(io.StringIO(), "LPA", {}, {})
    with pytest.raises(TypeError, match=r"opened for bytes \(mode 'rb'\), got a StringIO"):
        storage.load(io.StringIO("text"))
    for nothing in (None, 3, b"path"):
        with pytest.raises(TypeError, match="expected file to be a path or a file opened"):
            storage.save(nothing, "LPA", {}, {})
        with pytest.raises(TypeError, match="expected file to be a path or a file opened"):
            storage.load(nothing)
    with pytest.raises(TypeError, match="expected the settings of LPA to be numbers"):
        storage.save(tmp_path / "none", "LPA", {"bank": object()}, {})
    assert not list(tmp_path.iterdir())


def test_folder_instead_of_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match="got the folder"):
        storage.save(tmp_path, "LPA", {}, {})
    with pytest.raises(IsADirectoryError):
        storage.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="in a folder that exists"):
        storage.save(tmp_path / "none" / "file", "LPA", {}, {})


def test_a_folder_that_may_not_be_written_to_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # (Whoever runs the tests may have all permissions.)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(PermissionError, match="expected a folder to write to"):
        storage.save(tmp_path / "file", "LPA", {}, {})


def test_saving_to_a_device_file(tmp_path: Path) -> None:
    storage.save("/dev/null", "LPA", SETTINGS, TENSORS)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_tensors_that_share_memory_are_saved(tmp_path: Path) -> None:
    whole = torch.rand(4, 3)
    storage.save(
        tmp_path / "file", "LPA", {}, {"first": whole[:2], "all": whole, "turned": whole.T}
    )
    tensors = storage.load(tmp_path / "file").tensors
    assert torch.equal(tensors["all"].T, tensors["turned"]) and len(tensors) == 3


def test_a_file_is_replaced_at_once_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.safetensors"
    storage.save(path, "LPA", SETTINGS, TENSORS)
    before = path.read_bytes()
    path.chmod(0o640)
    loaded = storage.load(path).tensors
    storage.save(path, "LPA", {}, {name: value + 1 for name, value in TENSORS.items()})
    assert path.read_bytes() != before and stat.S_IMODE(path.stat().st_mode) == 0o640
    # What was loaded is not the file's.
    assert all(torch.equal(loaded[name], value) for name, value in TENSORS.items())

    def fail(*_: object) -> None:
        raise OSError("no space left")

    before = path.read_bytes()
    for step in ("fsync", "replace"):
        with monkeypatch.context() as patched:
            patched.setattr(os, step, fail)
            with pytest.raises(OSError, match="no space left"):
                storage.save(path, "LPA", SETTINGS, TENSORS)
        assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_a_new_file_has_the_usual_permissions_and_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    storage.save(tmp_path / "file", "LPA", {}, {})
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode
    (tmp_path / "link").symlink_to(tmp_path / "file")
    storage.save(tmp_path / "link", "LFP", {}, {})
    assert (tmp_path / "link").is_symlink() and storage.load(tmp_path / "file").kind == "LFP"


def test_missing_file_raises(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        storage.load(tmp_path / "none.safetensors")


def test_below_a_prefix() -> None:
    assert storage.below("bank", TENSORS).keys() == {"vectors", "more"}
    assert storage.below("none", TENSORS) == {}
