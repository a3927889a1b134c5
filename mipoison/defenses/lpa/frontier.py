"""The frontier of codebooks, from many codewords a label to one, and where on it fresh rows meet an aim."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from mipoison import ops
from mipoison.certificates.certify import certify
from mipoison.defenses.lpa.aim import Aim
from mipoison.defenses.lpa.folds import folds
from mipoison.defenses.lpa.merging import Merged, leading, merge
from mipoison.ops.rows import label_of
from mipoison.progress import Progress
from mipoison.reference.project import distance
from mipoison.surrogate import Surrogate

# First codewords a label: as many as fit into a table of this size, between 8 and 24.
_TABLE: Final = 1 << 13
_FEWEST, _MOST = 8, 24
_FOLDS: Final = 8
# The share by which a budget may be missed.
_MET: Final = 0.1
# No two probability vectors are farther apart, in any norm.
FARTHEST: Final = 2.0


@dataclass(frozen=True)
class Frontier:
    """The cells of every label, see `Merged`; one for each label, also for those without rows."""

    labels: list[Merged]

    @classmethod
    def of(cls, rows: Tensor, inputs: Tensor, aim: Aim, progress: Progress) -> Frontier:
        """Merges the rows [N, K] of each label, by their inputs [N, D]."""
        k, label = rows.shape[1], label_of(rows)
        cells = max(_FEWEST, min(_MOST, _TABLE // k))
        generator = torch.Generator().manual_seed(aim.seed)
        labels = []
        for t in range(k):
            mine = (label == t).nonzero().squeeze(1)
            if len(mine) > 0:
                given = rows[mine], inputs[mine], t
                labels.append(merge(*given, cells=cells, margin=aim.margin, generator=generator))
            else:
                # The middle between the label's vertex and the uniform row.
                middle = torch.full_like(rows[:1], 0.5 / k).to(torch.float64)
                middle[0, t] += 0.5
                never = torch.full_like(middle[0, :1], torch.inf)
                labels.append(Merged(leading(middle, t, aim.margin), -never, never))
            progress((t + 1) / k)
        return cls(labels)

    def codewords(self, limit: float) -> list[Tensor]:
        """The codewords of each label at a price limit, float32 [M, K]."""
        return [merged.centers[merged.at(limit)] for merged in self.labels]

    def limits(self) -> Tensor:
        """All price limits at which something changes, growing; float64, and -inf before them."""
        prices: Tensor = torch.cat([merged.born for merged in self.labels]).unique()
        return prices


def within_reach(p: Tensor, target: Tensor, epsilon: float, norm: str) -> Tensor:
    """The targets of rows [N, K] that lie within epsilon, bit for bit; toward the others as far as epsilon allows."""
    if epsilon >= FARTHEST:
        return target
    moved = ops.move(p, target, epsilon=epsilon, norm=norm, validate=False)
    near = distance(target, p, norm) <= epsilon
    return torch.where(near.unsqueeze(-1), target, moved)


class Fresh:
    """Rows that were kept out of a fit, and how far each of its cells is from them.

    Args:
        frontier: the fit.
        rows: float32 [n, K].
        place: where they stand among all rows, [n].
        aim: with the radius of each row's ball.
    """

    def __init__(self, frontier: Frontier, rows: Tensor, place: Tensor, aim: Aim) -> None:
        label = label_of(rows)
        self.frontier, self.rows, self.place, self.aim = frontier, rows, place, aim
        self.mine = [(label == t).nonzero().squeeze(1) for t in range(rows.shape[1])]
        self.far = [
            torch.cdist(rows[mine], merged.centers, p=1)
            for mine, merged in zip(self.mine, frontier.labels, strict=True)
        ]

    def nearest(self, limit: float) -> Tensor:
        """The nearest codewords at a price limit, [n, K]."""
        q = torch.empty_like(self.rows)
        for mine, far, merged in zip(self.mine, self.far, self.frontier.labels, strict=True):
            q[mine] = merged.centers[far.masked_fill(~merged.at(limit), torch.inf).argmin(1)]
        return q

    def answers(self, limit: float) -> Tensor:
        """The answers at a price limit, [n, K]."""
        return within_reach(self.rows, self.nearest(limit), self.aim.epsilon, self.aim.norm)

    def spent(self, limit: float) -> float:
        """Sum of the rows' l1 moves."""
        return float((self.answers(limit) - self.rows).abs().sum())


def limit_for_budget(
    frontier: Frontier,
    rows: Tensor,
    inputs: Tensor,
    groups: Tensor | None,
    aim: Aim,
    progress: Progress,
) -> tuple[float, float]:
    """The largest price limit at which fresh rows move by the budget at most, on average; and their mean move there.

    Raises:
        ValueError: if they move farther even to the finest codewords.
    """
    assert aim.budget is not None
    budget = aim.budget
    kept_out = _kept_out(rows, inputs, groups, aim, progress)

    def mean(limit: float) -> float:
        return sum(fresh.spent(limit) for fresh in kept_out) / len(rows)

    least = mean(-math.inf)
    if least > budget * (1 + _MET):
        raise ValueError(
            f"expected a budget that codewords can meet, got {budget:g} where the mean l1 of fresh rows is {least:.4g} "
            "with the most codewords; raise the budget, or give more outputs"
        )
    limit = _last(frontier.limits(), lambda limit: mean(limit) <= budget)
    return limit, mean(limit)


def limit_for_gain(
    frontier: Frontier,
    rows: Tensor,
    inputs: Tensor,
    groups: Tensor | None,
    aim: Aim,
    progress: Progress,
) -> float:
    """The smallest price limit at which the rows, each kept out of a fit, certify the gain.

    The error without a defense is that of a surrogate that was fitted without them.

    Raises:
        ValueError: if they do not certify it even with one codeword a label.
    """
    assert aim.certified is not None
    gain = aim.certified
    inputs = _unit_range(inputs)
    known = len(rows) if groups is None else len(groups.unique())
    if known < _FOLDS:
        raise ValueError(
            f"expected {_FOLDS} different inputs or more, to keep some of them out, got {known}; give a budget instead"
        )
    kept_out = _kept_out(rows, inputs, groups, aim, progress.part(0.0, 0.5))
    place = torch.cat([fresh.place for fresh in kept_out])
    some = None if groups is None else groups[place]
    undefended = _undefended(rows, inputs, kept_out, aim.seed, progress.part(0.5, 1.0))

    def certified(limit: float) -> float:
        # The codewords of a fold stand for those of the whole fit: each fold's own would count as other answers.
        words = torch.cat([fresh.nearest(limit) for fresh in kept_out])
        words = Fresh(frontier, words, place, aim).nearest(limit)
        q = within_reach(rows[place], words, aim.epsilon, aim.norm)
        return certify(q, rows[place], inputs[place], groups=some, seed=aim.seed).gain(undefended)

    most = certified(math.inf)
    if math.isnan(most):
        raise ValueError(
            "expected vectors that tell more of the inputs than their labels do, got none, so that no gain is defined; "
            "give a budget instead"
        )
    if most < gain:
        raise ValueError(
            f"expected a gain that {len(rows)} rows can certify, got {gain:g} where one codeword a label certifies "
            f"{most:.3g}; lower it, or give more outputs"
        )
    limits = frontier.limits()
    short = _last(limits, lambda limit: certified(limit) < gain)
    if certified(short) >= gain:
        return short
    enough = limits[limits > short]
    return float(enough[0]) if len(enough) > 0 else math.inf


def _unit_range(inputs: Tensor) -> Tensor:
    """The inputs in [0, 1], so that their unit decides nothing."""
    low, high = float(inputs.min()), float(inputs.max())
    if low == high:
        raise ValueError(
            f"expected inputs that differ, to certify a gain on, got all entries {low:g}; give a budget instead"
        )
    scaled = (inputs.to(torch.float64) - low) / (high - low)
    return scaled.to(torch.float32)


def _undefended(
    rows: Tensor, inputs: Tensor, kept_out: list[Fresh], seed: int, progress: Progress
) -> float:
    """Mean squared error of surrogates on rows that they were fitted without, of every second fold."""
    chosen = kept_out[::2]
    wrong, count = 0.0, 0
    for i, fresh in enumerate(chosen):
        others = torch.ones_like(rows[:, 0], dtype=torch.bool)
        others[fresh.place] = False
        part = progress.part(i / len(chosen), (i + 1) / len(chosen))
        surrogate = Surrogate.fit(rows[others], inputs[others], seed=seed, progress=part)
        error = surrogate.reconstruct(fresh.rows) - inputs[fresh.place]
        wrong += float(error.square().mean(1).sum())
        count += len(fresh.rows)
    return wrong / count


def _kept_out(
    rows: Tensor, inputs: Tensor, groups: Tensor | None, aim: Aim, progress: Progress
) -> list[Fresh]:
    """Each fold of the rows with a frontier of the others; of a single row with its own."""
    fold = folds(label_of(rows), groups, _FOLDS, aim.seed)
    count = int(fold.max()) + 1
    found = []
    for i in range(count):
        out = fold == i
        seen = ~out if count > 1 else out
        part = progress.part(i / count, (i + 1) / count)
        frontier = Frontier.of(rows[seen], inputs[seen], aim, part)
        found.append(Fresh(frontier, rows[out], out.nonzero().squeeze(1), aim))
    return found


def _last(limits: Tensor, holds: Callable[[float], bool]) -> float:
    """The last of the growing limits up to which it holds, by bisection; the first if it never does, inf if always."""
    low, high = 0, len(limits)
    while high - low > 1:
        middle = (low + high) // 2
        if holds(float(limits[middle])):
            low = middle
        else:
            high = middle
    return float(limits[low]) if high < len(limits) else math.inf
