"""What an LPA objective is."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Final

from torch import Tensor

from mipoison.dtype_stable import DtypeStable
from mipoison.random import Key

# Cell width of the key's hash, in units of confidence: rows in the same cells draw the same words, so that slightly
# changed copies of a query are not a way to average the key out.
GRID: Final = 0.1


class Objective(DtypeStable):
    """Chooses where in its ε-set each row goes; one file each beside this one.

    An objective is stateless in its answers: what it does to a row is a function of (fitted state,
    key, row).
    """

    name: ClassVar[str]
    # Whether a row may be answered as it is; else a row that did not move is moved (see `LPA.answer`).
    may_stay: ClassVar[bool] = False

    @property
    def classes(self) -> int | None:
        """K of the data it was fitted on; None where any K will do."""
        return None

    @abstractmethod
    def poison(self, p: Tensor, *, key: Key, epsilon: float, norm: str) -> Tensor:
        """Moves rows within C(p, label, ε, 0).

        Args:
            p: clean probability vectors, float32 or float64 [N, K].
            key: the deployment's secret.
            epsilon: radius of the ball.
            norm: its norm.

        Returns:
            [N, K] of p's dtype, each row in its set.
        """

    def settings(self) -> dict[str, Any]:
        """What `restore` needs beside the tensors, and the name to find it by; JSON types."""
        return {"name": self.name}

    @classmethod
    @abstractmethod
    def restore(cls, settings: dict[str, Any], tensors: dict[str, Tensor]) -> Objective:
        """Builds the objective from what `settings` and `state_dict` gave."""
