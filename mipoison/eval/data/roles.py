"""Hold the images of a data set and those of each party.

Roles: *private* rows train the target classifier, *defender* rows fit the defense, *auxiliary*
rows are the adversary's queries, *victims* are reconstructed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

ROLES = ("private", "defender", "auxiliary", "victims")
# The window of the structural similarity is three pixels wide at least.
_LEAST_SIDE = 3


@dataclass(frozen=True)
class Images:
    """A labelled data set of grey images.

    Attributes:
        inputs: float32 ``[n, D]``, pixels in [0, 1].
        labels: int64 ``[n]``, classes from 0.
        image_shape: height and width; their product is D.
    """

    inputs: Tensor
    labels: Tensor
    image_shape: tuple[int, int]


@dataclass(frozen=True)
class Role:
    """The rows that one party holds.

    Attributes:
        inputs: float32 ``[n, D]``, pixels in [0, 1].
        labels: int64 ``[n]``, the true classes; -1 where the row shows none of the target's.
        rows: int64 ``[n]``, positions in the data set; altered copies of an image share its
            position.
    """

    inputs: Tensor
    labels: Tensor
    rows: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def where(self, chosen: Tensor) -> Role:
        """The rows that a mask ``[n]`` names, or positions do, in their order."""
        return Role(self.inputs[chosen], self.labels[chosen], self.rows[chosen])


def joined(*roles: Role) -> Role:
    """The rows of several roles, one role after the other."""
    return Role(
        torch.cat([role.inputs for role in roles]),
        torch.cat([role.labels for role in roles]),
        torch.cat([role.rows for role in roles]),
    )


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


def assemble(images: Images, rows: Mapping[str, Tensor]) -> Split:
    """Gives every role its rows of the data set.

    Args:
        images: the data set.
        rows: role to int64 positions; a key for each of `ROLES`.

    Raises:
        ValueError: if a side of the images is too small for a structural similarity, or there is one class alone.
    """
    if min(images.image_shape) < _LEAST_SIDE:
        raise ValueError(
            f"expected images with sides of at least {_LEAST_SIDE} pixels, got {images.image_shape}; give larger ones"
        )
    classes = int(images.labels.max()) + 1
    if classes < 2:
        raise ValueError(
            "expected images of at least 2 classes, got 1; a classifier tells nothing of them"
        )
    held = {name: Role(images.inputs[own], images.labels[own], own) for name, own in rows.items()}
    return Split(
        private=held["private"],
        defender=held["defender"],
        auxiliary=held["auxiliary"],
        victims=held["victims"],
        classes=classes,
        image_shape=images.image_shape,
    )
