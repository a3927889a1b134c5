"""What all trained adversaries share: E systems side by side, and eyes on their learning."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor

from mipoison.eval.adversaries.base import LearningCurves
from mipoison.eval.scalars import whole


def stacked(vectors: Tensor) -> Tensor:
    """Vectors of E systems, ``[E, m, K]``, of one or several: ``[(E,) m, K]``."""
    return vectors if vectors.dim() == 3 else vectors.unsqueeze(0)


class Watched(ABC):
    """An adversary that is trained for some epochs, and can be watched.

    Args:
        name: how reports call it.
        kind: which features it reads.
        epochs: passes over the auxiliary rows.
        batch: rows a step.
        learning_rate: peak of its schedule.
        log_floor: smallest entry before the logarithm.
        seed: initial weights and order of the batches.
        on_epoch: called after every epoch.

    Attributes:
        curves: error on the training rows and on held-out rows after each epoch.
    """

    def __init__(
        self,
        *,
        name: str,
        kind: str,
        epochs: int,
        batch: int,
        learning_rate: float,
        log_floor: float,
        seed: int,
        on_epoch: Callable[[], None] | None,
    ) -> None:
        self.name = name
        self.kind = kind
        self.epochs = whole("epochs", epochs, least=1)
        self.batch = whole("batch", batch, least=1)
        self.learning_rate = learning_rate
        self.log_floor = log_floor
        self.seed = whole("seed", seed)
        self.on_epoch = on_epoch
        self.curves: LearningCurves = {"train": [], "held_out": []}

    @abstractmethod
    def reconstruct(self, defended: Tensor) -> Tensor:
        """Returns pixels in [0, 1], ``[(E,) m, D]``, for served vectors ``[(E,) m, K]``."""

    def _epoch_ended(self, errors: list[float], held_out: tuple[Tensor, Tensor] | None) -> None:
        """Adds to the curves: the training rows' errors, and those of vectors and inputs held out."""
        self.curves["train"].append(errors)
        if held_out is not None:
            vectors, originals = held_out
            watched = (self.reconstruct(stacked(vectors)) - originals).square().mean((1, 2))
            self.curves["held_out"].append(watched.tolist())
        if self.on_epoch is not None:
            self.on_epoch()
