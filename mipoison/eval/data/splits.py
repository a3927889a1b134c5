"""Divide a data set among the parties, without overlap, as the seed decides.

Roles: *private* rows train the target classifier, *defender* rows fit the defense, *auxiliary*
rows are the adversary's queries, *victims* are reconstructed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
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
        logits: float32 ``[n, K]``, stored with the data; None: nothing is.
    """

    inputs: Tensor
    labels: Tensor
    rows: Tensor
    logits: Tensor | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def where(self, chosen: Tensor) -> Role:
        """The rows that a mask ``[n]`` names, or positions do, in their order."""
        logits = None if self.logits is None else self.logits[chosen]
        return Role(self.inputs[chosen], self.labels[chosen], self.rows[chosen], logits)


def joined(*roles: Role) -> Role:
    """The rows of several roles, one role after the other; their logits where all have some."""
    logits = [role.logits for role in roles if role.logits is not None]
    return Role(
        torch.cat([role.inputs for role in roles]),
        torch.cat([role.labels for role in roles]),
        torch.cat([role.rows for role in roles]),
        torch.cat(logits) if len(logits) == len(roles) else None,
    )


@dataclass(frozen=True)
class Split:
    """One data set divided among the roles.

    A data set may store the answers of a classifier that is not here (`Role.logits`), whose classes can be others than
    those of the labels.

    Attributes:
        private: trains the target classifier.
        defender: fits the defense; never private.
        auxiliary: what the adversary queries with.
        victims: what the adversary reconstructs.
        classes: number of classes that the labels name; 0: no row has a label.
        image_shape: height and width; their product is D.
        columns: int64 ``[classes]``, where the stored logits have each class; None: their classes are others.
        auxiliary_known: whether the auxiliary rows show what the victims do; False: other people, or other classes.
    """

    private: Role
    defender: Role
    auxiliary: Role
    victims: Role
    classes: int
    image_shape: tuple[int, int]
    columns: Tensor | None = None
    auxiliary_known: bool = True


def assemble(
    images: Images,
    rows: Mapping[str, Tensor],
    *,
    logits: Tensor | None = None,
    columns: Tensor | None = None,
    auxiliary_known: bool = True,
) -> Split:
    """Gives every role its rows of the data set.

    Args:
        images: the data set.
        rows: role to int64 positions; a key for each of `ROLES`.
        logits: stored with the data set, ``[n, K]``.
        columns: where they have each class, see `Split`.
        auxiliary_known: see `Split`.

    Raises:
        ValueError: if a side of the images is too small for a structural similarity, or there is one class alone.
    """
    if min(images.image_shape) < _LEAST_SIDE:
        raise ValueError(
            f"expected images with sides of at least {_LEAST_SIDE} pixels, got {images.image_shape}; give larger ones"
        )
    classes = int(images.labels.max()) + 1
    if classes == 1:
        raise ValueError(
            "expected images of at least 2 classes, got 1; a classifier tells nothing of them"
        )
    everyone = Role(images.inputs, images.labels, torch.arange(len(images.labels)), logits)
    held = {name: everyone.where(own) for name, own in rows.items()}
    return Split(
        private=held["private"],
        defender=held["defender"],
        auxiliary=held["auxiliary"],
        victims=held["victims"],
        classes=classes,
        image_shape=images.image_shape,
        columns=columns,
        auxiliary_known=auxiliary_known,
    )


# Of each class of a user's own data.
SHARES = {"private": 0.2, "defender": 0.2, "auxiliary": 0.4, "victims": 0.2}


def by_count(total: int, sizes: Mapping[str, int], *, seed: int) -> dict[str, Tensor]:
    """Shuffles all rows and gives each role as many as it is due.

    Args:
        total: rows of the data set.
        sizes: role to number of rows; together at most ``total``.
        seed: of the shuffle.

    Returns:
        Role to int64 positions.

    Example:
        >>> rows = by_count(10, {"private": 6, "victims": 4}, seed=0)
        >>> sorted(torch.cat(list(rows.values())).tolist())
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    """
    order = torch.from_numpy(np.random.default_rng(seed).permutation(total))
    return dict(
        zip(sizes, order.split([*sizes.values(), total - sum(sizes.values())]), strict=False)
    )


def by_share(total: int, shares: Mapping[str, float], *, seed: int) -> dict[str, Tensor]:
    """Shuffles all rows and gives each role its share of them.

    Raises:
        ValueError: if a role gets no row.

    Example:
        >>> {role: len(rows) for role, rows in by_share(10, {"private": 0.6, "victims": 0.4}, seed=0).items()}
        {'private': 6, 'victims': 4}
    """
    return by_class(torch.zeros(total, dtype=torch.int64), shares, seed=seed, names=["(none)"])


def by_class(
    labels: Tensor, shares: Mapping[str, float], *, seed: int, names: Sequence[object] = ()
) -> dict[str, Tensor]:
    """Gives each role its share of every class, so that no class is missing from a role.

    Args:
        labels: ``[n]``, classes from 0.
        shares: role to share; they sum to 1.
        seed: of the shuffles.
        names: what the classes are called, for a message; their numbers if nothing else.

    Returns:
        Role to int64 positions, the classes mixed.

    Raises:
        ValueError: if a class has too few images for every role to get one.

    Example:
        >>> rows = by_class(torch.tensor([0] * 4 + [1] * 4), {"private": 0.5, "victims": 0.5}, seed=0)
        >>> [int((own < 4).sum()) for own in rows.values()]
        [2, 2]
    """
    generator = np.random.default_rng(seed)
    edges = np.cumsum([0.0, *shares.values()])
    divided: dict[str, list[Tensor]] = {role: [] for role in shares}
    for label in range(int(labels.max()) + 1):
        own = torch.from_numpy(generator.permutation(torch.where(labels == label)[0].numpy()))
        cuts = np.rint(edges * len(own)).astype(int)
        for role, start, end in zip(shares, cuts[:-1], cuts[1:], strict=True):
            if start == end:
                name = names[label] if names else label
                raise ValueError(
                    f"class {name}: expected enough images to give one to each of {list(shares)}, "
                    f"got {len(own)}; add images or leave the class out"
                )
            divided[role].append(own[start:end])
    return {
        role: torch.from_numpy(generator.permutation(torch.cat(parts).numpy()))
        for role, parts in divided.items()
    }


# The share of the classes that only the adversary knows.
_DISJOINT_SHARE: Final = 1 / 3
# The label of a row that shows none of the target's classes.
UNKNOWN: Final = -1


def with_disjoint_classes(parts: Split, *, seed: int) -> Split:
    """Auxiliary data whose classes the target never saw: a third of the classes goes to the adversary alone.

    Yang et al. (CCS 2019) attack so, with FaceScrub and CelebA.

    Rows of the other classes keep their roles, and their auxiliary rows are left out. The rows that were auxiliary
    before come last in the new auxiliary role: the last ones are kept back from training, and copies of one photo
    belong together.

    Args:
        parts: a data set divided among the roles.
        seed: of the choice of classes.

    Returns:
        The roles with classes counted anew from 0; auxiliary rows have label -1.

    Raises:
        ValueError: if fewer than two classes would remain, the rows have no labels, or the auxiliary rows show others
            already.

    Example:
        >>> from mipoison.eval.data.loading import split
        >>> parts = with_disjoint_classes(split("digits", seed=100), seed=0)
        >>> parts.classes, parts.auxiliary.labels.unique().tolist()
        (7, [-1])
    """
    if not parts.classes or not parts.auxiliary_known:
        why = "rows without classes" if parts.auxiliary_known else "auxiliary rows of other people"
        raise ValueError(
            f"auxiliary: expected rows with classes for 'other', got {why}; take 'same'"
        )
    count = max(1, round(parts.classes * _DISJOINT_SHARE))
    if parts.classes - count < 2:
        raise ValueError(
            f"auxiliary: expected at least 3 classes for 'other', got {parts.classes}; take 'same'"
        )
    generator = np.random.default_rng(seed)
    disjoint = torch.zeros(parts.classes, dtype=torch.bool)
    disjoint[torch.from_numpy(generator.permutation(parts.classes)[:count])] = True
    anew = torch.where(disjoint, UNKNOWN, (~disjoint).cumsum(0) - 1)

    def of(role: Role, *, adversary: bool) -> Role:
        chosen = role.where(disjoint[role.labels] == adversary)
        return replace(chosen, labels=anew[chosen.labels])

    everyone = (parts.private, parts.defender, parts.victims, parts.auxiliary)
    return Split(
        private=of(parts.private, adversary=False),
        defender=of(parts.defender, adversary=False),
        auxiliary=joined(*(of(role, adversary=True) for role in everyone)),
        victims=of(parts.victims, adversary=False),
        classes=parts.classes - count,
        image_shape=parts.image_shape,
        columns=None if parts.columns is None else parts.columns[~disjoint],
        auxiliary_known=False,
    )
