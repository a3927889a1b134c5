"""Images in MNIST's own format are read from a folder, whole or packed, and what is no such file is told."""

import gzip

import numpy as np
import pytest
import torch

from mipoison.eval.data import idx
from mipoison.eval.data.catalogue import describe
from mipoison.eval.data.loading import split

ROWS = 40


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(idx, "SIZES", {"private": 8, "defender": 8, "auxiliary": 16, "victims": 4})


def written(folder, x, y, *, packed=True):
    """The two files of MNIST's format that hold these bytes."""
    for stem, array in (("train-images-idx3-ubyte", x), ("train-labels-idx1-ubyte", y)):
        content = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
        content += array.tobytes()
        if packed:
            (folder / f"{stem}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / stem).write_bytes(content)
    return f"idx:{folder}"


@pytest.fixture
def arrays():
    generator = np.random.default_rng(0)
    x = generator.integers(0, 256, (ROWS, 6, 5), dtype=np.uint8)
    return x, np.arange(ROWS, dtype=np.uint8) % 3


@pytest.mark.parametrize("packed", [True, False])
def test_rows_are_divided_without_overlap(arrays, packed, tmp_path):
    x, y = arrays
    parts = split(written(tmp_path, x, y, packed=packed), seed=100)
    roles = (parts.private, parts.defender, parts.auxiliary, parts.victims)
    assert [len(role) for role in roles] == [8, 8, 16, 4] and parts.image_shape == (6, 5)
    inputs = torch.cat([role.inputs for role in roles])
    labels = torch.cat([role.labels for role in roles])
    known = {row.tobytes(): int(label) for row, label in zip(x, y, strict=True)}
    seen = [(255 * row).round().to(torch.uint8).numpy().tobytes() for row in inputs]
    assert len(set(seen)) == len(seen) and [known[row] for row in seen] == labels.tolist()


def test_the_package_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setattr(idx, "FASHION", tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="apt-get install dataset-fashion-mnist, or name"):
        split("fashion", seed=100)
    assert "Fashion-MNIST" in describe("fashion")


def test_mistakes_are_told(arrays, tmp_path):
    x, y = arrays
    with pytest.raises(FileNotFoundError, match=r"expected train-images-idx3-ubyte or .*neither"):
        split(f"idx:{tmp_path}", seed=100)
    with pytest.raises(ValueError, match="got 20 images and 40 labels"):
        split(written(tmp_path, x[:20], y), seed=100)
    file = tmp_path / "train-images-idx3-ubyte.gz"
    # The product of the last one's dimensions, 2^22 x 2^21 x 2^21, is 0 in 64 bits.
    overflowing = b"\0\0\x08\x03" + np.array([2**22, 2**21, 2**21], ">u4").tobytes()
    for content in (b"\0\0\x08\x01" + bytes(20), b"", overflowing):
        file.write_bytes(gzip.compress(content))
        with pytest.raises(ValueError, match="hold bytes in 3 dimensions"):
            split(f"idx:{tmp_path}", seed=100)
    file.write_bytes(gzip.compress(x.tobytes())[:30])
    with pytest.raises(ValueError, match="to be whole"):
        split(f"idx:{tmp_path}", seed=100)
