"""A keyed random direction: what is left without a surrogate, the weakest form of LPA."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from mipoison import ops
from mipoison.defenses.lpa.objective import Objective
from mipoison.random import Key, uniforms


def keyed_direction(p: Tensor, key: Key, grid: float) -> Tensor:
    """Entries uniform in (−1, 1), a function of (key, row's cells); [N, K] of p's dtype."""
    words = ops.row_bits(p, key=key, grid=grid, words=p.shape[-1])
    return (2 * uniforms(words) - 1).to(p.dtype)


class Direction(Objective):
    """Steps along a keyed direction to the border of the ball; needs nothing but the row."""

    name: ClassVar[str] = "direction"

    def poison(self, p: Tensor, *, key: Key, epsilon: float, norm: str) -> Tensor:
        """See `Objective.poison`."""
        # Two radii long, so that what the simplex cuts off still leaves the ball's border within
        # reach.
        return ops.step(
            p,
            keyed_direction(p, key, grid=0.0),
            center=p,
            alpha=min(2 * epsilon, 4.0),
            epsilon=epsilon,
            norm=norm,
            validate=False,
        )

    @classmethod
    def restore(cls, settings: dict[str, Any], tensors: dict[str, Tensor]) -> Direction:
        """See `Objective.restore`."""
        return cls()
