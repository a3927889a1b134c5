"""State what every inversion adversary offers, and what it is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypedDict, TypeVar

import torch
from torch import Tensor

Self = TypeVar("Self", bound="Adversary")
Trained = TypeVar("Trained", bound="Network")


class Adversary(Protocol):
    """An inversion adversary: learns to map served vectors back to inputs.

    The served vectors are ``[n, K]``, or ``[E, n, K]`` for E systems attacked side by side
    (the same inputs behind E different defenses); the answers then carry the same leading E.

    Attributes:
        name: how reports call the adversary.
    """

    name: str

    def fit(self: Self, defended: Tensor, inputs: Tensor) -> Self:
        """Learns from the adversary's own queries ``[(E,) n, K]`` and their inputs ``[n, D]``."""
        ...

    def reconstruct(self, defended: Tensor) -> Tensor:
        """Returns pixels ``[(E,) m, D]`` in [0, 1] for served vectors ``[(E,) m, K]``."""
        ...


class LearningCurves(TypedDict):
    """Mean squared pixel error after each epoch, one list of E values an epoch."""

    train: list[list[float]]
    held_out: list[list[float]]


class Network(Adversary, Protocol):
    """An adversary that is trained for some epochs, and can be watched.

    Attributes:
        curves: error on the training rows and on held-out rows after each epoch.
        on_epoch: called after every epoch.
    """

    curves: LearningCurves
    on_epoch: Callable[[], None] | None

    def fit(
        self: Trained,
        defended: Tensor,
        inputs: Tensor,
        held_out: tuple[Tensor, Tensor] | None = None,
    ) -> Trained:
        """Learns as any adversary does; ``held_out`` is only watched."""
        ...

    def member(self: Trained, index: int) -> Trained:
        """Returns the network that attacks one of the E systems, as an adversary of its own."""
        ...


def features(defended: Tensor, kind: str, *, log_floor: float = 1e-6) -> Tensor:
    """Builds what an adversary reads from a served vector.

    Args:
        defended: ``[..., K]``.
        kind: "raw" (the vector), "log" (its logarithm) or "raw+log" (both, side by side).
        log_floor: entries are raised to this before the logarithm, so that it is finite.

    Returns:
        ``[..., K]``, or ``[..., 2K]`` for "raw+log".

    Raises:
        ValueError: if the kind is unknown.

    Example:
        >>> features(torch.tensor([[1.0, 0.0]]), "raw+log", log_floor=1e-2)
        tensor([[ 1.0000,  0.0000,  0.0000, -4.6052]])
    """
    if kind == "raw":
        return defended
    logs = defended.clamp_min(log_floor).log()
    if kind == "log":
        return logs
    if kind == "raw+log":
        return torch.cat([defended, logs], dim=-1)
    raise ValueError(f"features: expected 'raw', 'log' or 'raw+log', got {kind!r}")
