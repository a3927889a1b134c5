"""The penalty weight at which fresh rows, which the game has not seen, spend the budget."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from mipoison.defenses.clean import as_dtype
from mipoison.defenses.lpa.aim import Aim
from mipoison.defenses.lpa.folds import folds
from mipoison.defenses.lpa.game import bisect_penalty_weight
from mipoison.defenses.lpa.penalized import (
    KEYS,
    TABLE,
    Penalized,
    Weighed,
    require_pairs,
)
from mipoison.ops.rows import label_of
from mipoison.progress import Progress

_Fit: TypeAlias = Callable[[Tensor, Tensor, Progress], Penalized]

# From this many rows on, halves are worth fitting.
_FEW: Final = 1000
# From this many on, one of them tells as much as both of fewer rows, if its rows' mean move is as exact as below.
_MANY: Final = 2000
# From so many rows or groups on, a share is kept out where labels have fewer rows than this on average.
_KEPT_OUT: Final = ((1000, 100), (256, 40), (128, 10))
# One in three is kept out of a fit, or one in two where the game plays on a share of the rows anyway; but no more than
# about this many.
_FOLDS: Final = 3
_MOST: Final = 1000
# Others are kept out of further fits, so many at most, and one fewer with few rows, until the standard error of the
# mean move is this share of the budget.
_FITS: Final = 3
_EXACT: Final = 0.05
# The share of what half of the rows spend by being memorised, which all rows do.
_MEMORISED: Final = 0.5
# Groups that are kept out are weighed in so many parts.
_PARTS: Final = 4


def fit_cross(
    kind: type[Penalized],
    rows: Tensor,
    inputs: Tensor,
    groups: Tensor | None,
    aim: Aim,
    progress: Progress,
) -> Penalized:
    """Fits with a penalty weight at which fresh rows spend the budget, and says what they are estimated to spend.

    The game's adversaries have memorised the answers to the rows that they were fitted on, so those rows and fresh rows
    spend different amounts at one weight. There are three ways to set it.

    1. *A share is kept out*: where labels have few rows, or the game plays on a share of the rows anyway. It is played
       without a third or a half of the rows; then these join the bank, and the weight is set so that they spend the
       budget. Where their moves differ too much for their mean to tell, others are kept out of another fit. The first
       fit serves, at the weight where its rows spend the mean of what those of all fits do.
    2. *Halves*: with many rows a label, all of them are worth playing on. Each half of the rows is fitted, or one of
       them where it is large enough, and compared with all rows: at the weight where the other half spends the budget,
       how much more does the half spend? Adversaries who see twice as many rows memorise half as much of each. So the
       rows of the fit on all of them may spend half as much more.
    3. *Neither*: with few rows, either would err more than it corrects, and the fitted rows spend the budget. What they
       spend under other keys is then the estimate.

    Args:
        kind: the objective.
        rows: the defender's own rows, [N, K].
        inputs: their inputs, [N, ...].
        groups: int64 [N]: rows of one group stay together; None: every row is one.
        aim: the settings; its budget is the mean l1 of fresh rows.
        progress: told how much is done.
    """
    budget = aim.budget
    assert budget is not None

    def fit(some: Tensor, x: Tensor, part: Progress) -> Penalized:
        return kind.fit(
            some,
            x,
            budget=budget,
            epsilon=aim.epsilon,
            norm=aim.norm,
            error=aim.error,
            seed=aim.seed,
            progress=part,
        )

    require_pairs(rows)
    if groups is not None and len(groups.unique()) == len(rows):
        # No row has a copy.
        groups = None
    fold = _kept_out(rows, groups, aim.seed, kind.candidates_a_row)
    if fold is not None:
        return _fit_without(fold, fit, rows, inputs, groups, aim, progress)
    half = _half(rows, groups, aim.seed)
    if half is not None:
        return _fit_halves(half, fit, rows, inputs, groups, aim, progress)
    on_all = fit(rows, inputs, progress)
    on_all.realised = on_all.spent_at(
        on_all.penalty_weight, rows, epsilon=aim.epsilon, norm=aim.norm
    )
    return on_all


def _fit_without(
    fold: Tensor,
    fit: _Fit,
    rows: Tensor,
    inputs: Tensor,
    groups: Tensor | None,
    aim: Aim,
    progress: Progress,
) -> Penalized:
    """The first way of `fit_cross`, for the fold of each row [N], of which one is kept out at a time."""
    budget = aim.budget
    assert budget is not None
    with torch.inference_mode(False), torch.no_grad():
        vectors = as_dtype(rows, torch.float32).clone()
        most = min(_FITS if len(rows) >= _FEW else _FITS - 1, int(fold.max()) + 1)
        finals, fresh, spent, moves = [], [], [], []
        for i in range(most):
            out = fold == i
            fitted = fit(rows[~out], inputs[~out], progress.part(i / most, (i + 1) / most))
            fold_parts = _parts(out, rows, groups, aim.seed)
            parts = [
                one.weighed(some, epsilon=aim.epsilon, norm=aim.norm)
                for one, some in _as_fresh(fitted, fold_parts, rows, vectors, groups)
            ]
            weighed = _joined(parts)
            final = fitted.with_bank(vectors)
            final.penalty_weight = bisect_penalty_weight(*weighed, budget, final.sharpness)
            finals.append(final)
            fresh.append(weighed.spent_at(final.penalty_weight, final.sharpness))
            # A row's move is the mean of those under its keys.
            chosen = [part.chosen(final.penalty_weight, final.sharpness) for part in parts]
            moves += [part.view(KEYS, -1).mean(0) for part in chosen]
            if _exact(torch.cat(moves), budget):
                break
        final = finals[0]
        final.realised = fresh[0]
        if len(finals) > 1:
            # One weight is worth another amount in each fit, so that what their own rows spend is averaged, as with
            # halves.
            for i, one in enumerate(finals):
                seen = rows[fold != i]
                spent.append(
                    one.spent_at(one.penalty_weight, seen, epsilon=aim.epsilon, norm=aim.norm)
                )
            goal = sum(spent) / len(spent)
            weighed = final.weighed(rows[fold != 0], epsilon=aim.epsilon, norm=aim.norm)
            final.penalty_weight = bisect_penalty_weight(*weighed, goal, final.sharpness)
            missed = weighed.spent_at(final.penalty_weight, final.sharpness) - goal
            final.realised = max(0.0, sum(fresh) / len(fresh) + missed)
        final.fresh = _as_fresh(
            final, _parts(fold == 0, rows, groups, aim.seed), rows, vectors, groups
        )
        return final


def _parts(out: Tensor, rows: Tensor, groups: Tensor | None, seed: int) -> list[Tensor]:
    """The rows that are kept out, as masks [N] of those that leave the bank together."""
    if groups is None:
        return [out]
    part = folds(label_of(rows[out]), groups[out], _PARTS, seed)
    place = out.nonzero().squeeze(1)
    made = []
    for i in part.unique().tolist():
        some = torch.zeros_like(out)
        some[place[part == i]] = True
        made.append(some)
    return made


def _as_fresh(
    fitted: Penalized, parts: list[Tensor], rows: Tensor, vectors: Tensor, groups: Tensor | None
) -> list[tuple[Penalized, Tensor]]:
    """The rows of each part, and the fit with the bank that these are compared with as fresh rows are.

    A row of no group is compared with all vectors but itself. The other rows of a group are near each other, and a
    fresh row has none such: they leave the bank.
    """
    banks = [vectors if groups is None else vectors[~some] for some in parts]
    return [(fitted.with_bank(bank), rows[some]) for bank, some in zip(banks, parts, strict=True)]


def _joined(parts: list[Weighed]) -> Weighed:
    """All rows together; a part with fewer answers a row has others that may not be given."""
    most = max(part.score.shape[1] for part in parts)
    fillers = (-math.inf, 0.0, 0.0)
    return Weighed(
        *(
            torch.cat([F.pad(one, (0, most - one.shape[1]), value=filler) for one in tensors])
            for filler, *tensors in zip(fillers, *parts, strict=True)
        )
    )


def _fit_halves(
    half: Tensor,
    fit: _Fit,
    rows: Tensor,
    inputs: Tensor,
    groups: Tensor | None,
    aim: Aim,
    progress: Progress,
) -> Penalized:
    """The second way of `fit_cross`, for one half as a mask [N]; the other is fitted if it must be, or to be exact."""
    budget = aim.budget
    assert budget is not None
    both = groups is not None or len(rows) < _MANY
    with torch.inference_mode(False), torch.no_grad():
        vectors = as_dtype(rows, torch.float32).clone()
        halves = [_parts(held, rows, groups, aim.seed) for held in (half, ~half)]

        def weighed(fitted: Penalized, parts: list[Tensor]) -> Weighed:
            beside = _as_fresh(fitted, parts, rows, vectors, groups)
            return _joined(
                [one.weighed(some, epsilon=aim.epsilon, norm=aim.norm) for one, some in beside]
            )

        on_all = fit(rows, inputs, progress.part(0.0, 0.5))
        sharpness = on_all.sharpness
        memorised = []
        kept: list[tuple[Penalized, Tensor]] = []
        for i, (held, parts) in enumerate(zip((half, ~half), halves, strict=True)):
            start = 0.5 + 0.25 * i
            on_half = fit(rows[~held], inputs[~held], progress.part(start, start + 0.25))
            others = weighed(on_half, parts)
            on_half.penalty_weight = bisect_penalty_weight(*others, budget, sharpness)
            moves = others.chosen(on_half.penalty_weight, sharpness)
            seen = weighed(on_half, halves[1 - i]).spent_at(on_half.penalty_weight, sharpness)
            memorised.append(seen - float(moves.mean()))
            kept += _as_fresh(on_half, parts, rows, vectors, groups)
            if not both and _exact(moves.view(KEYS, -1).mean(0), budget):
                break
        more = _MEMORISED * sum(memorised) / len(memorised)
        everyone = weighed(on_all, halves[0] + halves[1])
        on_all.penalty_weight = bisect_penalty_weight(*everyone, budget + more, sharpness)
        on_all.realised = max(0.0, everyone.spent_at(on_all.penalty_weight, sharpness) - more)
        on_all.fresh = kept
        return on_all


def _exact(moves: Tensor, budget: float) -> bool:
    """Whether the mean of the rows' moves [n] has a small standard error."""
    return float(moves.std()) / math.sqrt(len(moves)) <= _EXACT * budget


def _kept_out(rows: Tensor, groups: Tensor | None, seed: int, candidates: int) -> Tensor | None:
    """The fold of each row, of which one is kept out; None where all are worth playing on, or there are too few."""
    label = label_of(rows)
    members = len(rows) if groups is None else len(groups.unique())
    enough = next((each for least, each in _KEPT_OUT if members >= least), 0)
    # The game plays on a share of the rows where its table would not hold all of them.
    shared = enough > 0 and rows.numel() * candidates > TABLE
    if not shared and members >= enough * len(label.unique()):
        return None
    return folds(label, groups, max(_FOLDS - shared, members // _MOST), seed)


def _half(rows: Tensor, groups: Tensor | None, seed: int) -> Tensor | None:
    """Half of the groups of every label, as a mask of their rows [N]; None where there are too few."""
    label = label_of(rows)
    members = len(rows) if groups is None else len(groups.unique())
    labels = len(label.unique())
    few = len(rows) < _FEW and members == len(rows)
    if few or members < 2 * labels or len(rows) < 4 * labels:
        return None
    return folds(label, groups, 2, seed) == 0
