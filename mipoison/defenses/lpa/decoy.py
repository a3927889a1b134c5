"""Decoy: moves rows toward the surrogate's recovery from another vector of the same label."""

from __future__ import annotations

from typing import Any, ClassVar, Final

import torch
from torch import Tensor

from mipoison.defenses.bank import Bank
from mipoison.defenses.lpa.objective import GRID
from mipoison.defenses.lpa.toward_bank import TowardBank
from mipoison.defenses.storage import below
from mipoison.keys import Key
from mipoison.ops import unchecked
from mipoison.surrogate import Surrogate

_STEPS: Final = 8
# The length of the longest step as a share of epsilon: longer steps leave the ball and are cut off.
_STEP: Final = 0.15
# Steps are shorter where less than this share of the first distance to the goal is left. They overshoot: with 2 for the
# share they come nine times as near to the goal, and protect less (decision 12).
_FAR: Final = 0.5
# A share of the goal's length that is the rounding of a distance to it.
_NOISE: Final = 1e-3


class Decoy(TowardBank):
    """Minimises ‖G(q) − G(v)‖² for the surrogate G and a keyed bank vector v of the row's label.

    1. v is the one of a few keyed bank vectors of the label whose reconstruction is farthest from the row's.
    2. The row moves toward v: by water-filling in l1, which replaces small entries and what their logarithms tell.
    3. Projected gradient steps of one length, shorter near the goal, where they would follow the gradient's rounding.

    Args:
        surrogate: the fitted inversion models.
        bank: output vectors of the defender's own, non-private, data.
        grid: cell width of the key's hash, in units of confidence; 0 for the finest cells, see `row_bits`.
    """

    name: ClassVar[str] = "decoy"

    def __init__(self, surrogate: Surrogate, bank: Bank, *, grid: float = GRID) -> None:
        super().__init__(surrogate, bank)
        self.grid = grid
        self.prepare()

    def poison(self, p: Tensor, *, key: Key, epsilon: float, norm: str) -> Tensor:
        """See `Objective.poison`."""
        target, goal, first = self.far_target(p, key=key, grid=self.grid)
        far = _FAR * first + _NOISE * goal.square().sum(-1).sqrt()
        style = "waterfill" if norm == "l1" else "straight"
        return unchecked.perturb(
            unchecked.move(p, target.to(p.dtype), epsilon=epsilon, norm=norm, style=style),
            goal,
            self.surrogate,
            center=p,
            # A surrogate that recovers nothing is at its goal everywhere.
            near=far.clamp_min(torch.finfo(torch.float32).tiny),
            steps=_STEPS,
            alpha=_STEP * epsilon,
            epsilon=epsilon,
            norm=norm,
            smooth=True,
        )

    def settings(self) -> dict[str, Any]:
        """See `Objective.settings`."""
        return super().settings() | self.surrogate.settings() | {"grid": self.grid}

    @classmethod
    def restore(cls, settings: dict[str, Any], tensors: dict[str, Tensor]) -> Decoy:
        """See `Objective.restore`."""
        surrogate = Surrogate.restore(settings, below("surrogate", tensors))
        return cls(surrogate, Bank(tensors["bank.vectors"]), grid=settings["grid"])
