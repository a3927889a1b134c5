"""The file format: settings and tensors, nothing else, and a clear answer to another file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from mipoison.defenses import storage

SETTINGS = {"epsilon": 0.1 + 0.2, "norm": "l1", "threshold": None, "shape": [3, 4], "text": "ε"}
TENSORS = {
    "bank.vectors": torch.rand(4, 3),
    "bank.more": torch.rand(4, 6)[:, ::2],
    "bankrupt": torch.arange(3),
    "classes": torch.tensor(7),
}


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    storage.save(path, "LPA", SETTINGS, TENSORS)
    settings, tensors = storage.load(path, "LPA")
    assert settings == SETTINGS and tensors.keys() == TENSORS.keys()
    for name, value in TENSORS.items():
        assert torch.equal(tensors[name], value) and tensors[name].dtype == value.dtype
    with safe_open(str(path), framework="pt") as file:
        assert file.metadata().keys() == {"mipoison", "format", "settings"}


def test_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    storage.save(path, "LFP", {}, {})
    with pytest.raises(
        ValueError, match=r"expected a file saved by LPA\.save, got LFP in .*file\."
    ):
        storage.load(path, "LPA")
    save_file({"x": torch.zeros(1)}, str(path))
    with pytest.raises(ValueError, match="got no mipoison defense"):
        storage.load(path, "LPA")


def test_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    save_file({}, str(path), metadata={"mipoison": "LPA", "format": "2", "settings": "{}"})
    with pytest.raises(ValueError, match=r"expected format 1 in .*, got 2; save the defense again"):
        storage.load(path, "LPA")


@pytest.mark.parametrize(
    "content", [b"", b"not a file of tensors", bytes(64)], ids=["empty", "text", "zeros"]
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"expected a file saved by LPA\.save"):
        storage.load(path, "LPA")


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        storage.load(tmp_path / "none.safetensors", "LPA")


def test_below_a_prefix() -> None:
    assert storage.below("bank", TENSORS).keys() == {"vectors", "more"}
    assert storage.below("none", TENSORS) == {}
