"""scikit-learn's digits: small enough for a whole study in minutes."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_digits as _load_digits

from mipoison.eval.data.deal import by_count
from mipoison.eval.data.roles import Images, Split, assemble
from mipoison.eval.seeding import derive_seed

DESCRIPTION = (
    "scikit-learn digits, 1797 grey images of 8×8 pixels: 400 private, 400 defender, "
    "700 auxiliary, 297 victims"
)
SIZES = {"private": 400, "defender": 400, "auxiliary": 700, "victims": 297}


def load(seed: int) -> Split:
    """Reads the digits and divides them among the roles."""
    bunch = _load_digits()
    images = Images(
        torch.from_numpy((bunch.data / 16.0).astype(np.float32)),
        torch.from_numpy(bunch.target.astype(np.int64)),
        (8, 8),
    )
    rows = by_count(len(images.labels), SIZES, seed=derive_seed(seed, "split", "digits"))
    return assemble(images, rows)
