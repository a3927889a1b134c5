"""Say what an audit will do: rows of each party, how hard the adversaries try, and which defenses are measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
from torch import Tensor

from mipoison.defenses.lpa import AUTO
from mipoison.eval.adversaries.settings import AdversarySettings
from mipoison.eval.methods import Method
from mipoison.eval.presets import LABEL_ONLY, NONE, codebook, of_budget, rounding, swept

# Of the mean l1 distance that one answer a label would take.
BUDGET_SHARES: Final = (0.1, 0.3, 0.8)
BUDGET_RULE: Final = (
    "10, 30 and 80 % of the mean l1 distance that one answer a label would take, to two digits; that is the distance "
    "to the label's corner or to the mean vector of its other rows, whichever is less"
)
# The objectives of LPA that may be recommended. ("auto" keeps the equilibrium, the cutoff or the codebook: beside it, a
# second measurement of the first two would tell nothing; the third is always worth its certificate.)
_OBJECTIVES: Final = (AUTO, "generator", "codebook")
# One auxiliary row in so many is kept back, to choose among the adversary's variants.
_KEPT_BACK: Final = 8
# Vectors nearer to the label's tell nothing else.
_NOTHING: Final = 1e-9


@dataclass(frozen=True)
class Preset:
    """How thorough an audit is.

    Attributes:
        most: the most rows of each role; more are left out.
        most_rest: the most rows that certificates use beside those of the roles.
        adversary: how hard the adversaries try, with enough rows.
        shown: pictures on the page.
    """

    most: Mapping[str, int]
    most_rest: int
    adversary: AdversarySettings
    shown: int = 8

    def adversary_for(self, rows: int) -> AdversarySettings:
        """The adversaries' settings for so many auxiliary rows."""
        held_out = max(8, rows // _KEPT_BACK)
        fitted = rows - held_out
        neighbours = [k for k in self.adversary.neighbours if 4 * k <= fitted]
        return replace(
            self.adversary, held_out=held_out, neighbours=tuple(neighbours or [max(1, fitted // 8)])
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"most_rows": dict(self.most), "most_rest": self.most_rest}


PRESETS: Final[Mapping[str, Preset]] = {
    "quick": Preset(
        {"defender": 400, "auxiliary": 1000, "victims": 300},
        2000,
        AdversarySettings(width=192, epochs=60, wide_width=256, wide_epochs=40, patience=6),
    ),
    "standard": Preset(
        {"defender": 1500, "auxiliary": 4000, "victims": 1000}, 6000, AdversarySettings()
    ),
}


def one_answer(outputs: Tensor) -> float:
    """The mean l1 distance that one answer a label would take: what is won beyond that costs nothing more.

    The lesser of the distances to the vector that tells the label alone, and to the mean vector of the other rows of
    the label.

    Example:
        >>> import torch
        >>> one_answer(torch.tensor([[0.75, 0.25], [0.25, 0.75]]))
        0.5
    """
    p = outputs.double()
    top, label = p.max(-1)
    corner = 2 * (1 - top)
    sums = p.new_zeros(p.shape[1], p.shape[1]).index_add_(0, label, p)
    others = (torch.bincount(label, minlength=p.shape[1])[label] - 1).unsqueeze(1)
    middle = (p - (sums[label] - p) / others.clamp_min(1)).abs().sum(-1)
    return float(min(corner.mean(), middle.where(others.squeeze(1) > 0, corner).mean()))


def budgets(outputs: Tensor) -> tuple[float, ...]:
    """The three budgets that fit the vectors, see `BUDGET_RULE`; none where they tell the label alone.

    Example:
        >>> import torch
        >>> budgets(torch.tensor([[0.75, 0.25], [0.25, 0.75]]))
        (0.05, 0.15, 0.4)
    """
    farthest = one_answer(outputs)
    if farthest < _NOTHING:
        return ()
    return tuple(float(f"{share * farthest:.2g}") for share in BUDGET_SHARES)


def references() -> tuple[Method, Method]:
    """What defenses lie between: vectors as they are, and the label alone."""
    return NONE, LABEL_ONLY


def defenses(at: tuple[float, ...]) -> tuple[Method, ...]:
    """The defenses that are measured: those that are recommended and simple baselines, at each budget."""
    if not at:
        return ()
    compared = [codebook(), rounding(1), rounding(2)]
    for budget in at:
        compared += [of_budget(name, budget) for name in _OBJECTIVES]
        compared.append(swept("high_confidence", budget))
    return tuple(compared)
