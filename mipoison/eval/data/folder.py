"""A user's own pictures, one folder a class."""

from __future__ import annotations

from pathlib import Path

import torch

from mipoison.eval.data.deal import by_class
from mipoison.eval.data.npz import SHARES
from mipoison.eval.data.pictures import grey_square
from mipoison.eval.data.roles import Images, Split, assemble
from mipoison.eval.seeding import derive_seed

SIDE = 32
SUFFIXES = (".png", ".jpg", ".jpeg", ".pgm", ".ppm", ".bmp", ".tif", ".tiff", ".webp")
DESCRIPTION = (
    "pictures of {path}, one folder a class, grey, averaged to 32×32 pixels; of each class 20 % "
    "private, 20 % defender, 40 % auxiliary, 20 % victims"
)


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


def load(seed: int, path: Path) -> Split:
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
