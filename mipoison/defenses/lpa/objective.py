"""The base class of LPA objectives."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, ClassVar, Final

from torch import Tensor

from mipoison.defenses.expected import Expected
from mipoison.defenses.pieces import NETWORKS
from mipoison.dtype_stable import DtypeStable

# Cell width of the key's hash, in units of confidence. Rows in the same cells draw the same words, so that averaging
# over slightly changed copies of a query does not remove the key's effect.
GRID: Final = 0.1


class Objective(DtypeStable):
    """Chooses the answer to each row in its set C; one file for each objective.

    The answer to a row is a function of (fitted state, key, row).
    """

    name: ClassVar[str]
    # Whether a row may stay; else `LPA.answer` moves a row that did not.
    may_stay: ClassVar[bool] = False
    # The radius of each row's ball unless another is given.
    epsilon: ClassVar[float] = 0.2
    # See `Defense.piece`.
    piece: ClassVar[int] = NETWORKS
    # Whether answers depend on the key.
    keyed: bool = True
    # See `LPA.realised`.
    realised: float | None = None
    # See `Defense.expected`.
    expected: Expected | None = None
    # After a fit, for `LPA.fit`: rows that were kept out of it, each with the objective that is to answer them.
    fresh: Sequence[tuple[Objective, Tensor]] = ()

    @property
    def classes(self) -> int | None:
        """K of the data it was fitted on; None if any K is accepted."""
        return None

    def check_margin(self, margin: float) -> None:
        """Raises ValueError where answers whose label leads by the margin would break what the objective promises."""

    def leads(self, margin: float, epsilon: float) -> bool:
        """See `Defense.leads`."""
        return False

    @abstractmethod
    def poison(self, p: Tensor, *, key: Any, epsilon: float, norm: str) -> Tensor:
        """Moves rows within C(p, label, ε, 0).

        Args:
            p: clean probability vectors, float32 or float64 [N, K].
            key: the deployment's secret, a `Key`; None for an objective that is not keyed.
            epsilon: radius of the ball.
            norm: its norm.

        Returns:
            [N, K] of p's dtype, each row in its set.
        """

    def settings(self) -> dict[str, Any]:
        """The objective's name, what is said of fresh rows, and the arguments of `restore` beside the tensors; JSON."""
        expected = None if self.expected is None else asdict(self.expected)
        return {"name": self.name, "realised": self.realised, "expected": expected}

    @classmethod
    @abstractmethod
    def restore(cls, settings: dict[str, Any], tensors: dict[str, Tensor]) -> Objective:
        """Builds the objective from the values of `settings` and `state_dict`."""
