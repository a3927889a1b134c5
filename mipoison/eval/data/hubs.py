"""Data sets of torchvision and of Hugging Face by their names, where those packages are installed."""

from __future__ import annotations

import importlib
import inspect
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import torch
from PIL import Image

from mipoison.eval.data.pictures import SIDE, grey
from mipoison.eval.data.splits import SHARES, Images, Split, assemble, by_class
from mipoison.eval.outside import in_one_line
from mipoison.eval.scalars import derive_seed

# More say nothing more about a defense, and take longer.
MOST: Final = 20_000


def load_torchvision(seed: int, path: Path) -> Split:
    """Loads `torchvision.datasets.NAME`, its training part where there are several, and downloads it if need be.

    Args:
        seed: of the division among the roles.
        path: the class's name, "FashionMNIST" say; it must give pictures with integer labels.

    Raises:
        ValueError: if torchvision is not there or does not load, has no such data set, or it is of another kind.
    """
    module = _module("torchvision.datasets", "torchvision")
    kind = getattr(module, path.name, None)
    if not inspect.isclass(kind):
        raise ValueError(
            f"dataset 'torchvision:{path}': expected a class of torchvision.datasets, got none"
        )
    known = inspect.signature(kind).parameters
    wanted = {"root": str(_cache() / "torchvision"), "download": True, "train": True}
    with in_one_line(f"dataset 'torchvision:{path}': loaded or downloaded, it"):
        data: Any = kind(**{name: value for name, value in wanted.items() if name in known})
    return _divided((data[i] for i in _spread(len(data))), seed, f"torchvision:{path}")


def load_hugging_face(seed: int, path: Path) -> Split:
    """Loads the part "train" of a data set of the Hugging Face hub, or its first.

    Args:
        seed: of the division among the roles.
        path: the data set's name, "ylecun/mnist" say; it needs a column of pictures and one of class labels.

    Raises:
        ValueError: if `datasets` is not there, or the data set has no such columns.
    """
    module = _module("datasets", "datasets")
    with in_one_line(f"dataset 'huggingface:{path.as_posix()}': loaded or downloaded, it"):
        parts = module.load_dataset(path.as_posix())
    data = parts["train"] if "train" in parts else next(iter(parts.values()))
    columns = {type(kind).__name__: name for name, kind in reversed(data.features.items())}
    if not {"Image", "ClassLabel"} <= set(columns):
        raise ValueError(
            f"dataset 'huggingface:{path.as_posix()}': expected a column Image and a column ClassLabel, got "
            f"{ {name: type(kind).__name__ for name, kind in data.features.items()} }"
        )
    items = (data[i] for i in _spread(len(data)))
    pairs = ((item[columns["Image"]], item[columns["ClassLabel"]]) for item in items)
    return _divided(pairs, seed, f"huggingface:{path.as_posix()}")


def _cache() -> Path:
    """Where downloads are kept; beside other temporary files where there is no home."""
    try:
        return Path.home() / ".cache/mipoison"
    except RuntimeError:
        return Path(tempfile.gettempdir()) / "mipoison"


def _module(name: str, package: str) -> Any:
    try:
        return importlib.import_module(name)
    # A torchvision that was built for another torch fails in ways of its own.
    except (ImportError, RuntimeError) as error:
        raise ValueError(
            f"expected {package} to be installed and to load, got {type(error).__name__}: {error}; "
            f"pip install {package}"
        ) from error


def _spread(count: int) -> Iterator[int]:
    """Places of at most MOST rows, evenly spread."""
    kept = min(count, MOST)
    return (i * count // kept for i in range(kept))


def _divided(pairs: Iterator[tuple[Any, Any]], seed: int, name: str) -> Split:
    pixels, labels = [], []
    for picture, label in pairs:
        if not isinstance(picture, Image.Image):
            raise ValueError(
                f"dataset {name!r}: expected pictures, got {type(picture).__name__}; take one whose items are "
                "pictures and class numbers"
            )
        try:
            pixels.append(grey(picture, SIDE).flatten())
        except ValueError as error:
            raise ValueError(f"dataset {name!r}: {error}") from error
        labels.append(int(label))
    if not pixels:
        raise ValueError(f"dataset {name!r}: expected pictures, got none")
    _, classes = torch.tensor(labels).unique(return_inverse=True)
    images = Images(torch.stack(pixels), classes, (SIDE, SIDE))
    return assemble(images, by_class(classes, SHARES, seed=derive_seed(seed, "split", "hub")))
