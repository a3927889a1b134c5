"""Divide a data set among the four roles of the experiment, without overlap.

Roles: *private* rows train the target classifier, *defender* rows fit the defense, *auxiliary*
rows are the adversary's queries, *victims* are reconstructed. Who gets which row depends on the
name of the data set and the seed, on nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.datasets import load_digits as _load_digits
from torch import Tensor

from mipoison.eval.seeding import derive_seed

ROLE_SIZES: Mapping[str, Mapping[str, int]] = {
    "digits": {"private": 400, "defender": 400, "auxiliary": 700, "victims": 297}
}


@dataclass(frozen=True)
class Role:
    """The rows that one party holds.

    Attributes:
        inputs: float32 ``[n, D]``, pixels in [0, 1].
        labels: int64 ``[n]``, the true classes.
        rows: int64 ``[n]``, positions in the data set.
    """

    inputs: Tensor
    labels: Tensor
    rows: Tensor

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class Split:
    """One data set divided among the roles.

    Attributes:
        private: trains the target classifier.
        defender: fits the defense; never private.
        auxiliary: what the adversary queries with.
        victims: what the adversary reconstructs.
        classes: number of classes K.
        image_shape: height and width; their product is D.
    """

    private: Role
    defender: Role
    auxiliary: Role
    victims: Role
    classes: int
    image_shape: tuple[int, int]


def split(dataset: str = "digits", *, seed: int) -> Split:
    """Loads a data set and divides it among the four roles.

    Args:
        dataset: "digits", the 1797 grey 8x8 images that ship with scikit-learn.
        seed: which division; the same seed gives the same division everywhere.

    Returns:
        The four disjoint roles: 400 private, 400 defender, 700 auxiliary, 297 victims.

    Raises:
        ValueError: if the data set is unknown.

    Example:
        >>> parts = split("digits", seed=100)
        >>> [len(role) for role in (parts.private, parts.defender, parts.auxiliary, parts.victims)]
        [400, 400, 700, 297]
        >>> float(parts.victims.inputs.min()), float(parts.victims.inputs.max())
        (0.0, 1.0)
    """
    if dataset not in ROLE_SIZES:
        raise ValueError(f"dataset: expected one of {sorted(ROLE_SIZES)}, got {dataset!r}")
    bunch = _load_digits()
    inputs = torch.from_numpy((bunch.data / 16.0).astype(np.float32))
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    order = np.random.default_rng(derive_seed(seed, "split", dataset)).permutation(len(labels))
    roles: dict[str, Role] = {}
    start = 0
    for name, size in ROLE_SIZES[dataset].items():
        rows = torch.from_numpy(order[start : start + size])
        roles[name] = Role(inputs[rows], labels[rows], rows)
        start += size
    return Split(
        private=roles["private"],
        defender=roles["defender"],
        auxiliary=roles["auxiliary"],
        victims=roles["victims"],
        classes=int(labels.max()) + 1,
        image_shape=(8, 8),
    )
