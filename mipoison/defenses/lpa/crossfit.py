"""Set the price on rows that the game has not seen, so that fresh rows spend the budget."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from mipoison.defenses.lpa.priced import Priced
from mipoison.progress import Progress
from mipoison.reference import label_of

# Rows from which on halves are worth fitting.
_FEW: Final = 1000


def fit_cross(
    kind: type[Priced],
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
) -> Priced:
    """Fits on all rows, at the price by which halves of them make the other halves spend the budget.

    The adversaries know the own rows' answers by heart, so that own and fresh rows spend unlike sums at one price. Each
    half tells how much its own rows spend where the other half's spend the budget; all own rows are then made to spend
    that, on average of the two. Where rows are few, halves err more than that corrects, unless they hold copies: with
    fewer than a thousand rows and no groups, or fewer than two groups or four rows a label, the own rows spend the
    budget.

    Args:
        kind: the objective.
        rows: the defender's own rows, [N, K].
        inputs: what produced them, [N, ...].
        groups: int64 [N]: rows of one group stay together; None: every row is one.
        budget: mean l1 of fresh rows.
        epsilon: radius of every row's ball.
        norm: its norm.
        error: see `Priced`.
        seed: of the surrogates, the games and the halves.
        progress: told how much is done.
    """

    def fitted(own: Tensor, x: Tensor, part: Progress) -> Priced:
        return kind.fit(
            own,
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
    whole = fitted(rows, inputs, progress.part(0.0, 0.5))
    spent = 0.0
    for i, held in enumerate((half, ~half)):
        own = rows[~held]
        start = 0.5 + 0.25 * i
        part = fitted(own, inputs[~held], progress.part(start, start + 0.25))
        price = part.price_of(rows[held], budget, epsilon=epsilon, norm=norm)
        spent += part.spent_at(price, own, epsilon=epsilon, norm=norm) / 2
    whole.price = whole.price_of(rows, spent, epsilon=epsilon, norm=norm)
    return whole


def _half(rows: Tensor, groups: Tensor | None, seed: int) -> Tensor | None:
    """Half of the groups of every label, as a mask of their rows [N]; None where there are too few."""
    label = label_of(rows)
    group = torch.arange(len(rows), device=rows.device) if groups is None else groups
    members, index = group.unique(return_inverse=True)
    # A group counts for the label of the last of its rows: they hardly ever differ.
    own = label.new_zeros(len(members)).scatter(0, index, label)
    labels = len(label.unique())
    few = len(rows) < _FEW and len(members) == len(rows)
    if few or len(members) < 2 * labels or len(rows) < 4 * labels:
        return None
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(members), generator=generator, device="cpu")
    order = order.to(rows.device)
    order = order[own[order].argsort(stable=True)]
    chosen = torch.zeros_like(members, dtype=torch.bool)
    chosen[order[::2]] = True
    return chosen[index]
