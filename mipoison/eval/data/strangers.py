"""Give the adversary nobody whom the target knows, as Yang et al. (CCS 2019) do with FaceScrub and CelebA."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
import torch

from mipoison.eval.data.roles import Role, Split, joined
from mipoison.eval.seeding import derive_seed

# Whose images the adversary's queries show: classes of the target's, or none of them.
AUXILIARY: Final = ("same", "other")
# Strangers are so large a share of the classes.
_SHARE: Final = 1 / 3
STRANGERS: Final = "then a third of the classes is taken from the target, and their rows are all that the adversary has"
# The label of a row that shows none of the target's classes.
STRANGER: Final = -1


def with_strangers(parts: Split, *, seed: int) -> Split:
    """Takes a third of the classes from the target, and gives the adversary all their rows and no others.

    Rows keep their roles otherwise: of the classes that remain, the target and the defender hold what they held, and
    the victims are the same rows. Auxiliary rows of remaining classes are left out. The adversary's own rows come last
    in the new auxiliary role, since the last ones are kept back from training, and whole photos belong together.

    Args:
        parts: a data set divided among the roles.
        seed: which classes are strangers; nothing else.

    Returns:
        The roles with classes counted anew from 0; auxiliary rows have label -1.

    Raises:
        ValueError: if fewer than two classes would remain.

    Example:
        >>> from mipoison.eval.data import split
        >>> parts = with_strangers(split("digits", seed=100), seed=100)
        >>> parts.classes, parts.auxiliary.labels.unique().tolist()
        (7, [-1])
    """
    count = max(1, round(parts.classes * _SHARE))
    if parts.classes - count < 2:
        raise ValueError(
            f"auxiliary: expected at least 3 classes for 'other', got {parts.classes}; take 'same'"
        )
    generator = np.random.default_rng(derive_seed(seed, "strangers"))
    strange = torch.zeros(parts.classes, dtype=torch.bool)
    strange[torch.from_numpy(generator.permutation(parts.classes)[:count])] = True
    anew = torch.where(strange, STRANGER, (~strange).cumsum(0) - 1)

    def of(role: Role, *, strangers: bool) -> Role:
        chosen = role.where(strange[role.labels] == strangers)
        return replace(chosen, labels=anew[chosen.labels])

    everyone = (parts.private, parts.defender, parts.victims, parts.auxiliary)
    return Split(
        private=of(parts.private, strangers=False),
        defender=of(parts.defender, strangers=False),
        auxiliary=joined(*(of(role, strangers=True) for role in everyone)),
        victims=of(parts.victims, strangers=False),
        classes=parts.classes - count,
        image_shape=parts.image_shape,
    )
