"""Direction: moves rows along a keyed random direction, the weakest form of LPA, which needs no data."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from mipoison.defenses.lpa.objective import GRID, Objective
from mipoison.defenses.pieces import ROWS
from mipoison.keys import Key
from mipoison.ops.keyed import keyed_step


class Direction(Objective):
    """Steps along a keyed direction to the border of the ball; needs only the row."""

    name: ClassVar[str] = "direction"
    piece: ClassVar[int] = ROWS

    def poison(self, p: Tensor, *, key: Key, epsilon: float, norm: str) -> Tensor:
        """See `Objective.poison`."""
        # Two radii long, so that the step reaches the ball's border although the simplex cuts off part of it.
        return keyed_step(p, key, GRID, alpha=2 * epsilon, epsilon=epsilon, norm=norm)

    @classmethod
    def restore(cls, settings: dict[str, Any], tensors: dict[str, Tensor]) -> Direction:
        """See `Objective.restore`."""
        return cls()
