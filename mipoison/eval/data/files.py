"""Load a user's own images: arrays in one file, or pictures in one folder a class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mipoison.eval.data.pictures import SIDE, grey_square
from mipoison.eval.data.splits import SHARES, Images, Split, assemble, by_class
from mipoison.eval.scalars import derive_seed


def load_npz(seed: int, path: Path) -> Split:
    """Reads x and y from a ``.npz`` and divides the rows of each class among the roles.

    Args:
        seed: of the division.
        path: with x, uint8 or floats in [0, 1], ``[N, H, W]``, ``[N, 1, H, W]`` or ``[N, H, W, 1]``, and y,
            ``[N]``, the classes; any values that can be sorted.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file cannot be read, the arrays are missing or not as described, a side has fewer than 3
            pixels, or a class too few rows for every role to get one.
    """
    name = f"dataset 'npz:{path}'"
    arrays = read_npz(path, name, ("x", "y"), "numpy.savez(FILE, x=images, y=classes)")
    x, y = arrays["x"], arrays["y"]
    x = _one_channel(x, name)
    if y.shape != x.shape[:1] or not len(x):
        raise ValueError(
            f"{name}: expected y [N], one class for each image, got y {list(y.shape)} and {len(x)} images"
        )
    if x.dtype.kind not in "fiub":
        raise ValueError(f"{name}: expected x of numbers, got {x.dtype}")
    pixels = torch.from_numpy(scaled(x))
    # Written so that NaN fails.
    if not bool(((pixels >= 0.0) & (pixels <= 1.0)).all()):
        raise ValueError(
            f"{name}: expected x in [0, 1] or uint8, got {x.dtype} from {x.min()} to {x.max()}; divide x by its "
            "largest possible value"
        )
    names, places = np.unique(y, return_inverse=True)
    labels = torch.from_numpy(places.astype(np.int64))
    images = Images(pixels.flatten(1), labels, (x.shape[1], x.shape[2]))
    division = by_class(
        labels, SHARES, seed=derive_seed(seed, "split", "npz"), names=names.tolist()
    )
    return assemble(images, division)


def scaled(x: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Bytes as numbers in 0–1, other numbers as they are; float32."""
    return x.astype(np.float32) / np.float32(255 if x.dtype == np.uint8 else 1)


def read_npz(
    path: Path, name: str, needed: tuple[str, ...], how: str
) -> dict[str, npt.NDArray[Any]]:
    """Reads all arrays of a ``.npz``.

    Args:
        path: the file.
        name: what it is in messages.
        needed: arrays that it must have.
        how: the call that writes such a file, for messages.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read, or lacks one of the arrays.
    """
    if not path.is_file():
        found = "a folder" if path.is_dir() else "none"
        raise FileNotFoundError(
            f"{name}: expected a .npz file, found {found}; name one that {how} wrote"
        )
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if not set(needed) <= set(arrays.files):
                raise _Unfit(
                    f"{name}: expected arrays {' and '.join(needed)}, got {sorted(arrays.files)}"
                )
            return {each: arrays[each] for each in arrays.files}
    except _Unfit:
        raise
    # An .npy has no arrays by name, and what is damaged fails in many ways.
    except Exception as error:
        said = str(error).partition("\n")[0]
        raise ValueError(
            f"{name}: expected a .npz that numpy.savez wrote, with arrays of numbers or text and no objects, got "
            f"{type(error).__name__}: {said}; write it again with {how}"
        ) from error


class _Unfit(ValueError):
    """Of a file that can be read."""


def _one_channel(x: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    """Images ``[N, H, W]``, of one channel that may stand on either side."""
    if x.ndim == 4 and 1 in (x.shape[1], x.shape[3]):
        return x[:, 0] if x.shape[1] == 1 else x[..., 0]
    if x.ndim == 4 and {3, 4} & {x.shape[1], x.shape[3]}:
        axis = 3 if x.shape[3] in (3, 4) else 1
        channels = "x[..., :3]" if axis == 3 else "x[:, :3]"
        raise ValueError(
            f"{name}: expected grey images, x [N, H, W] or [N, 1, H, W], got {list(x.shape)}, which is colour; "
            f"average the channels before saving: x = {channels}.mean({axis}), divided by 255 if x is uint8"
        )
    if x.ndim != 3:
        raise ValueError(
            f"{name}: expected grey images, x [N, H, W] or [N, 1, H, W], got {list(x.shape)}; give x that shape with "
            "x.reshape(N, H, W)"
        )
    return x


SUFFIXES = (".png", ".jpg", ".jpeg", ".pgm", ".ppm", ".bmp", ".tif", ".tiff", ".webp")


def pictures_by_class(path: Path) -> list[list[Path]]:
    """The pictures of every subfolder, folders and files in alphabetical order; nothing that is hidden.

    What begins with a dot is no picture, whatever its suffix: macOS leaves ``._x.jpg`` beside each ``x.jpg`` that it
    copies.
    """
    folders = sorted(
        folder for folder in path.glob("*") if folder.is_dir() and folder.name[0] != "."
    )
    found = (
        sorted(
            file
            for file in folder.iterdir()
            if file.suffix.lower() in SUFFIXES and file.name[0] != "." and not file.is_dir()
        )
        for folder in folders
    )
    return [pictures for pictures in found if pictures]


def load_folder(seed: int, path: Path) -> Split:
    """Reads the pictures of every subfolder and divides those of each class among the roles.

    Classes are the subfolders that hold pictures, in alphabetical order, so that the division depends on the names of
    files and folders and the seed, not on where the folder lies.

    Args:
        seed: of the division.
        path: a folder of folders of pictures; of other files there is no notice taken.

    Raises:
        FileNotFoundError: if there is no such folder, or no pictures in it.
        ValueError: if a class has too few pictures for every role to get one, or a picture cannot be read or has
            neither 8 nor 16 bits.
    """
    classes = pictures_by_class(path)
    if not classes:
        raise FileNotFoundError(
            f"dataset 'folder:{path}': expected a folder with one folder of pictures a class "
            f"({', '.join(SUFFIXES)}), found none; make a folder for each class in it"
        )
    labels = torch.tensor([label for label, own in enumerate(classes) for _ in own])
    pixels = torch.stack([grey_square(file, SIDE).flatten() for own in classes for file in own])
    images = Images(pixels, labels, (SIDE, SIDE))
    names = [own[0].parent.name for own in classes]
    division = by_class(labels, SHARES, seed=derive_seed(seed, "split", "folder"), names=names)
    return assemble(images, division)
