"""Decoy: moves rows toward the surrogate's recovery from another vector of the same label."""

from __future__ import annotations

from typing import Any, ClassVar, Final

import torch
from torch import Tensor

from mipoison import ops
from mipoison.defenses.bank import Bank
from mipoison.defenses.clean import as_dtype
from mipoison.defenses.lpa.objective import GRID, Objective
from mipoison.defenses.storage import below
from mipoison.ops.validation import as_part
from mipoison.random import Key
from mipoison.reference import label_of
from mipoison.surrogate import Surrogate

_CANDIDATES: Final = 4
_STEPS: Final = 8
# The length of the longest step as a share of epsilon: longer steps leave the ball and are cut off.
_STEP: Final = 0.15
# Steps are shorter where less than this share of the first distance to the goal is left. They overshoot: with 2 for the
# share they come nine times as near to the goal, and protect less (decision 12).
_FAR: Final = 0.5
# A share of the goal's length that is the rounding of a distance to it.
_NOISE: Final = 1e-3


class Decoy(Objective):
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
        super().__init__()
        self.surrogate = as_part("surrogate", surrogate, Surrogate, "mp.Surrogate.fit")
        self.bank = as_part("bank", bank, Bank, "mp.LPA.fit")
        self.grid = grid

    @property
    def classes(self) -> int:
        """K of the surrogate."""
        return self.surrogate.classes

    def poison(self, p: Tensor, *, key: Key, epsilon: float, norm: str) -> Tensor:
        """See `Objective.poison`."""
        target, first = far_target(p, self.surrogate, self.bank, key=key, grid=self.grid)
        goal = self.surrogate(target)
        far = _FAR * first + _NOISE * goal.square().sum(-1, keepdim=True).sqrt()
        # A surrogate that recovers nothing is at its goal everywhere.
        far = far.clamp_min(torch.finfo(torch.float32).tiny)
        style = "waterfill" if norm == "l1" else "straight"
        q = ops.move(p, target.to(p.dtype), epsilon=epsilon, norm=norm, style=style)
        for _ in range(_STEPS):
            gradient, left = self.surrogate.pull(q, goal)
            stepped = ops.step(
                q,
                -gradient.to(p.dtype),
                center=p,
                alpha=_STEP * epsilon,
                epsilon=epsilon,
                norm=norm,
            )
            # The row's set is convex: it contains the shorter step.
            q = torch.lerp(q, stepped, (left / far).clamp(0, 1).to(p.dtype))
        return q

    def settings(self) -> dict[str, Any]:
        """See `Objective.settings`."""
        return super().settings() | self.surrogate.settings() | {"grid": self.grid}

    @classmethod
    def restore(cls, settings: dict[str, Any], tensors: dict[str, Tensor]) -> Decoy:
        """See `Objective.restore`."""
        surrogate = Surrogate.restore(settings, below("surrogate", tensors))
        return cls(surrogate, Bank(tensors["bank.vectors"]), grid=settings["grid"])


def far_target(
    p: Tensor, surrogate: Surrogate, bank: Bank, *, key: Key, grid: float
) -> tuple[Tensor, Tensor]:
    """The keyed bank vector, out of a few, whose reconstruction is farthest from the row's, and that distance.

    Returns:
        float32 [N, K] and [N, 1].
    """
    label = label_of(p)
    single = as_dtype(p, torch.float32, label)
    clean = surrogate(single)
    words = ops.row_bits(p, key=key, grid=grid, words=_CANDIDATES)
    target, farthest = single, torch.full_like(single[:, 0], -1.0)
    for word in words.unbind(-1):
        vector = bank.pick(single, label, word)
        distance = (surrogate(vector) - clean).square().sum(-1)
        target = torch.where((distance > farthest).unsqueeze(-1), vector, target)
        farthest = torch.maximum(farthest, distance)
    return target, farthest.sqrt().unsqueeze(-1)
