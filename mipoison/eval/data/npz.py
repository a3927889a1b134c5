"""A user's own images, as arrays in one file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from mipoison.eval.data.deal import by_class
from mipoison.eval.data.roles import Images, Split, assemble
from mipoison.eval.seeding import derive_seed

SHARES = {"private": 0.2, "defender": 0.2, "auxiliary": 0.4, "victims": 0.2}
DESCRIPTION = (
    "grey images of the arrays x and y of {path}; of each class 20 % private, 20 % defender, "
    "40 % auxiliary, 20 % victims"
)


def load(seed: int, path: Path) -> Split:
    """Reads x and y from a ``.npz`` and divides the rows of each class among the roles.

    Args:
        seed: of the division.
        path: with x, uint8 or floats in [0, 1], ``[N, H, W]``, and y, ``[N]``, the classes; any
            values that can be sorted.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the arrays are missing or not as described, a side has fewer than 3 pixels, or a class too few
            rows for every role to get one.
    """
    if not path.is_file():
        raise FileNotFoundError(f"dataset 'npz:{path}': expected a .npz file, found none")
    with np.load(path, allow_pickle=False) as arrays:
        if not {"x", "y"} <= set(arrays.files):
            raise ValueError(f"{path}: expected arrays x and y, got {sorted(arrays.files)}")
        x, y = arrays["x"], arrays["y"]
    if x.ndim != 3 or y.shape != x.shape[:1] or not len(x):
        raise ValueError(
            f"{path}: expected x [N, H, W] (grey) and y [N], got {list(x.shape)} and {list(y.shape)}"
        )
    pixels = torch.from_numpy(x.astype(np.float32)) / (255.0 if x.dtype == np.uint8 else 1.0)
    # Written so that NaN fails.
    if not bool(((pixels >= 0.0) & (pixels <= 1.0)).all()):
        raise ValueError(
            f"{path}: expected x in [0, 1] or uint8, got {x.dtype} from {x.min()} to {x.max()}"
        )
    names, places = np.unique(y, return_inverse=True)
    labels = torch.from_numpy(places.astype(np.int64))
    images = Images(pixels.flatten(1), labels, (x.shape[1], x.shape[2]))
    division = by_class(
        labels, SHARES, seed=derive_seed(seed, "split", "npz"), names=names.tolist()
    )
    return assemble(images, division)
