"""Load a user's own images: arrays in one file, or pictures in one folder a class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mipoison.eval.data.arrays import read_npz, scaled, stored_logits
from mipoison.eval.data.pictures import SIDE, grey_square
from mipoison.eval.data.splits import SHARES, UNKNOWN, Images, Split, assemble, by_class, by_share
from mipoison.eval.scalars import derive_seed


def load_npz(seed: int, path: Path) -> Split:
    """Reads x and y from a ``.npz`` and divides the rows of each class among the roles.

    Args:
        seed: of the division.
        path: with x, uint8 or floats in [0, 1], ``[N, H, W]``, ``[N, 1, H, W]`` or ``[N, H, W, 1]``, and y,
            ``[N]``, the classes; any values that can be sorted. It may also hold a classifier's answers to x, for the
            target "stored": outputs, probability vectors ``[N, K]``, or logits. Then y are columns of those, from 0 to
            K - 1, and may be left out where the true classes are not known.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file cannot be read, the arrays are missing or not as described, a side has fewer than 3
            pixels, or a class too few rows for every role to get one.
    """
    name = f"dataset 'npz:{path}'"
    arrays = read_npz(path, name, (), "numpy.savez(FILE, x=images, y=classes)")
    if "x" not in arrays or not {"y", "outputs", "logits"} & set(arrays):
        raise ValueError(
            f"{name}: expected arrays x and y, got {sorted(arrays)}; y may be left out beside a classifier's outputs "
            "[N, K] or logits"
        )
    logits = stored_logits(arrays, name, count=len(arrays["x"]))
    x = _one_channel(arrays["x"], name)
    # Nothing is said of the classes: the label of no class.
    y = arrays.get("y", np.full(len(x), UNKNOWN))
    if y.shape != x.shape[:1] or not len(x):
        raise ValueError(
            f"{name}: expected y [N], one class for each image, got y {list(y.shape)} and {len(x)} images"
        )
    pixels = torch.from_numpy(scaled(x, name, "x"))
    split_seed = derive_seed(seed, "split", "npz")
    shape = (x.shape[1], x.shape[2])
    if "y" not in arrays:
        images = Images(pixels.flatten(1), torch.from_numpy(y), shape)
        return assemble(images, by_share(len(x), SHARES, seed=split_seed), logits=logits)
    names, places = np.unique(y, return_inverse=True)
    labels = torch.from_numpy(places.astype(np.int64))
    division = by_class(labels, SHARES, seed=split_seed, names=names.tolist())
    images = Images(pixels.flatten(1), labels, shape)
    columns = None if logits is None else _columns(names, logits.shape[1], name)
    return assemble(images, division, logits=logits, columns=columns)


def _columns(classes: npt.NDArray[Any], width: int, name: str) -> Tensor:
    """The column of each class among stored answers of that width."""
    if classes.dtype.kind not in "iub" or not (0 <= int(classes[0]) <= int(classes[-1]) < width):
        raise ValueError(
            f"{name}: expected y to be columns of the stored answers, whole numbers from 0 to {width - 1}, got "
            f"{classes.dtype} from {classes[0]} to {classes[-1]}; leave y out if the true classes are not among them"
        )
    return torch.from_numpy(classes.astype(np.int64))


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
