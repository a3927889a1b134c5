"""Serve a classifier that is not here: its answers are stored with the data, and looked up row by row."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from mipoison.eval.data.splits import Role, Split

# The target's name in a configuration.
STORED: Final = "stored"


def require_stored(parts: Split) -> None:
    """Raises unless every row that is asked about has stored logits.

    Raises:
        ValueError: if a role lacks them.
    """
    roles = (parts.defender, parts.auxiliary, parts.victims)
    if any(role.logits is None for role in roles):
        raise ValueError(
            f"target: expected a data set that stores a classifier's answers for {STORED!r}, got one without; add "
            "outputs [N, K] or logits to its .npz, or name another target"
        )


def vector_length(target: str, parts: Split) -> int:
    """K: how many numbers a target answers with."""
    if target == STORED and parts.victims.logits is not None:
        return parts.victims.logits.shape[1]
    return parts.classes


def served_stored(role: Role, *, temperature: float) -> Tensor:
    """softmax(logits / T) of the stored logits, float32 ``[n, K]``."""
    assert role.logits is not None
    return torch.softmax(role.logits / temperature, dim=1)


def columns_of(parts: Split, role: Role, target: str) -> Tensor | None:
    """Where the target's vectors have the true class of each row, ``[n]``; None where they have none for it.

    Args:
        parts: the data by role.
        role: one of them.
        target: the configuration's.
    """
    if not parts.classes or bool((role.labels < 0).any()):
        return None
    if target != STORED:
        return role.labels
    return None if parts.columns is None else parts.columns[role.labels]
