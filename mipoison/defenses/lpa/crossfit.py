"""Cross-fitting of the penalty weight: fresh rows, which the game has not seen, spend the budget."""

from __future__ import annotations

from typing import Final

from torch import Tensor

from mipoison.defenses.lpa.folds import folds
from mipoison.defenses.lpa.penalized import Penalized
from mipoison.ops.rows import label_of
from mipoison.progress import Progress

# From this many rows on, halves are worth fitting.
_FEW: Final = 1000


def fit_cross(
    kind: type[Penalized],
    rows: Tensor,
    inputs: Tensor,
    groups: Tensor | None,
    *,
    budget: float,
    epsilon: float,
    norm: str,
    error: str,
    seed: int,
    progress: Progress,
) -> Penalized:
    """Fits on all rows, with a penalty weight at which fresh rows spend the budget.

    The game's adversaries have memorised the answers to the rows that they were fitted on, so those rows and fresh rows
    spend different amounts at one weight. Each half of the rows measures this: fitted on the half, at the weight where
    the other half spends the budget, how much does the half spend? The weight of the fit on all rows is then set so
    that all rows spend the mean of these two amounts. With fewer than a thousand rows and no groups, or fewer than two
    groups or four rows a label, the halves would err more than they correct, and the fitted rows spend the budget.

    Args:
        kind: the objective.
        rows: the defender's own rows, [N, K].
        inputs: their inputs, [N, ...].
        groups: int64 [N]: rows of one group stay together; None: every row is one.
        budget: mean l1 of fresh rows.
        epsilon: radius of each row's ball.
        norm: the ball's norm.
        error: see `Penalized`.
        seed: of the surrogates, the games and the halves.
        progress: told how much is done.
    """

    def fitted(some: Tensor, x: Tensor, part: Progress) -> Penalized:
        return kind.fit(
            some,
            x,
            budget=budget,
            epsilon=epsilon,
            norm=norm,
            error=error,
            seed=seed,
            progress=part,
        )

    half = _half(rows, groups, seed)
    if half is None:
        return fitted(rows, inputs, progress)
    on_all = fitted(rows, inputs, progress.part(0.0, 0.5))
    spent = 0.0
    for i, held in enumerate((half, ~half)):
        seen = rows[~held]
        start = 0.5 + 0.25 * i
        on_half = fitted(seen, inputs[~held], progress.part(start, start + 0.25))
        weight = on_half.weight_for(rows[held], budget, epsilon=epsilon, norm=norm)
        spent += on_half.spent_at(weight, seen, epsilon=epsilon, norm=norm) / 2
    on_all.penalty_weight = on_all.weight_for(rows, spent, epsilon=epsilon, norm=norm)
    return on_all


def _half(rows: Tensor, groups: Tensor | None, seed: int) -> Tensor | None:
    """Half of the groups of every label, as a mask of their rows [N]; None where there are too few."""
    label = label_of(rows)
    members = len(rows) if groups is None else len(groups.unique())
    labels = len(label.unique())
    few = len(rows) < _FEW and members == len(rows)
    if few or members < 2 * labels or len(rows) < 4 * labels:
        return None
    return folds(label, groups, 2, seed) == 0
