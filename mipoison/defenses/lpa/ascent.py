"""Ascent: moves rows away from the surrogate's recovery (Wen, Yiu, Hui, Defending against model inversion, 2021)."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from torch import Tensor

from mipoison.defenses.lpa.objective import GRID, Objective
from mipoison.defenses.storage import below
from mipoison.keys import Key
from mipoison.ops import unchecked
from mipoison.ops.keyed import keyed_step
from mipoison.ops.validation import as_part
from mipoison.surrogate import Surrogate

_STEPS: Final = 6
_STEP: Final = 1 / 3


class Ascent(Objective):
    """Maximises ‖G(q) − G(p)‖² for the surrogate G by normalised gradient steps, each projected onto the row's set.

    At q = p the gradient vanishes, so the first step is along a keyed direction. No bank is needed.

    Args:
        surrogate: the fitted inversion models.
    """

    name: ClassVar[str] = "ascent"

    def __init__(self, surrogate: Surrogate) -> None:
        super().__init__()
        self.surrogate = as_part("surrogate", surrogate, Surrogate, "mp.Surrogate.fit")

    @property
    def classes(self) -> int:
        """K of the surrogate."""
        return self.surrogate.classes

    def poison(self, p: Tensor, *, key: Key, epsilon: float, norm: str) -> Tensor:
        """See `Objective.poison`."""
        clean = unchecked.recover(p, self.surrogate)
        return unchecked.perturb(
            keyed_step(p, key, GRID, alpha=_STEP * epsilon, epsilon=epsilon, norm=norm),
            clean,
            self.surrogate,
            center=p,
            steps=_STEPS - 1,
            # Away from what is recovered from the row.
            alpha=-_STEP * epsilon,
            epsilon=epsilon,
            norm=norm,
            smooth=True,
        )

    @classmethod
    def restore(cls, settings: dict[str, Any], tensors: dict[str, Tensor]) -> Ascent:
        """See `Objective.restore`."""
        return cls(Surrogate.restore(settings, below("surrogate", tensors)))

    def settings(self) -> dict[str, Any]:
        """See `Objective.settings`."""
        return super().settings() | self.surrogate.settings()
