"""Direction: moves rows along a keyed random direction, the weakest form of LPA, which needs no data."""

from __future__ import annotations

from typing import Any, ClassVar, Final

import torch
from torch import Tensor

from mipoison.defenses.clean import in_memory
from mipoison.defenses.lpa.objective import GRID, Objective
from mipoison.defenses.pieces import ROWS
from mipoison.keys import Key
from mipoison.ops import unchecked
from mipoison.ops.keyed import keyed_bits
from mipoison.ops.rows import distance
from mipoison.random import uniforms

# How many times as far as a keyed direction its opposite must move a row to be taken.
_FARTHER: Final = 1.1


def keyed_step(p: Tensor, *, key: Key, alpha: float, epsilon: float, norm: str) -> Tensor:
    """One projected step along a keyed direction with entries uniform in (−1, 1); [N, K].

    Where the direction points out of the set (at a vertex, for example) the projection hardly moves. The
    opposite direction is taken if it moves clearly farther: inside the set both move as far, and rounding would choose.
    """
    words = keyed_bits(p, key, 0, GRID, p.shape[-1])
    direction = (2 * uniforms(words) - 1).to(p.dtype)

    def stepped(way: Tensor) -> Tensor:
        return unchecked.step(p, way, center=p, alpha=alpha, epsilon=epsilon, norm=norm)

    there = stepped(direction)
    gone = distance(there, p, norm)
    short = gone < min(alpha, epsilon) / 2
    if in_memory(p) and not bool(short.any()):
        return there
    back = stepped(-direction)
    turn = short & (distance(back, p, norm) > _FARTHER * gone)
    return torch.where(turn.unsqueeze(-1), back, there)


class Direction(Objective):
    """Steps along a keyed direction to the border of the ball; needs only the row."""

    name: ClassVar[str] = "direction"
    piece: ClassVar[int] = ROWS

    def poison(self, p: Tensor, *, key: Key, epsilon: float, norm: str) -> Tensor:
        """See `Objective.poison`."""
        # Two radii long, so that the step reaches the ball's border although the simplex cuts off part of it.
        return keyed_step(p, key=key, alpha=2 * epsilon, epsilon=epsilon, norm=norm)

    @classmethod
    def restore(cls, settings: dict[str, Any], tensors: dict[str, Tensor]) -> Direction:
        """See `Objective.restore`."""
        return cls()
