"""Load images in MNIST's own format, IDX: Fashion-MNIST, and others with files of the same names."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from mipoison.eval.data.splits import Images, Split, assemble, by_count
from mipoison.eval.scalars import derive_seed

# Where Debian's package dataset-fashion-mnist keeps them.
FASHION: Final = Path("/usr/share/datasets/fashion-mnist")
SIZES: Final = {"private": 2000, "defender": 2000, "auxiliary": 4000, "victims": 1000}
_IMAGES, _LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
# Two zeros, the code of unsigned bytes, and the number of dimensions, each of which takes four bytes.
_MAGIC: Final = b"\0\0\x08"
_WIDTH: Final = 4


def load_fashion(seed: int) -> Split:
    """Reads Fashion-MNIST from Debian's package and divides 9000 of its training images among the roles.

    Raises:
        FileNotFoundError: if the package is not installed.
    """
    if not FASHION.is_dir():
        raise FileNotFoundError(
            f"dataset 'fashion': expected the folder {FASHION}, found none; apt-get install dataset-fashion-mnist, or "
            "name a folder with its four files: --dataset idx:FOLDER"
        )
    return load_idx(seed, FASHION)


def load_idx(seed: int, path: Path) -> Split:
    """Reads the training images of a folder and divides 9000 of them among the roles.

    Args:
        seed: of the division.
        path: a folder with train-images-idx3-ubyte and train-labels-idx1-ubyte, or these with ".gz".

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if one is no such file, they differ in rows, or there are fewer than 9000.
    """
    name = f"dataset 'idx:{path}'"
    x, y = _read(path, _IMAGES, 3, name), _read(path, _LABELS, 1, name)
    needed = sum(SIZES.values())
    if len(x) != len(y) or len(x) < needed:
        raise ValueError(
            f"{name}: expected as many images as labels, and {needed} or more, got {len(x)} images and {len(y)} labels"
        )
    rows = by_count(len(x), SIZES, seed=derive_seed(seed, "split", "idx"))
    # Only the rows that somebody holds become numbers, a sixth of Fashion-MNIST.
    taken = torch.cat(list(rows.values())).numpy()
    labels = torch.from_numpy(np.unique(y[taken], return_inverse=True)[1].astype(np.int64))
    pixels = torch.from_numpy(x[taken].astype(np.float32) / np.float32(255))
    places = dict(zip(SIZES, torch.arange(len(taken)).split([*SIZES.values()]), strict=True))
    return assemble(Images(pixels.flatten(1), labels, (x.shape[1], x.shape[2])), places)


def _read(folder: Path, stem: str, dimensions: int, name: str) -> npt.NDArray[Any]:
    """The bytes of one file, in its shape."""
    found = [folder / f"{stem}{suffix}" for suffix in ("", ".gz")]
    file = next((one for one in found if one.is_file()), None)
    if file is None:
        raise FileNotFoundError(
            f"{name}: expected {stem} or {stem}.gz in the folder, found neither; these are the names of MNIST's files"
        )
    try:
        content = gzip.decompress(file.read_bytes()) if file.suffix else file.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{name}: expected {file.name} to be whole, got: {error}") from error
    start = _WIDTH * (1 + dimensions)
    sizes = np.frombuffer(content[_WIDTH:start].ljust(start - _WIDTH, b"\0"), dtype=">u4")
    # (As whole numbers of Python, whose product does not overflow.)
    shape: list[int] = sizes.tolist()
    if content[:_WIDTH] != _MAGIC + bytes([dimensions]) or len(content) != start + math.prod(shape):
        raise ValueError(
            f"{name}: expected {file.name} to hold bytes in {dimensions} dimensions, as IDX has them, got another file "
            "or a part of one"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)
