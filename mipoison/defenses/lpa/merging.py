"""Merge the rows of a label into fewer and fewer cells, each answered by one vector: the frontier of l1 and leakage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from mipoison import ops
from mipoison.defenses.clean import as_dtype
from mipoison.defenses.lead import least_lead

_ROUNDS: Final = 8
# Groups of rows are looked at together up to so many entries, padded to the largest.
_ENTRIES: Final = 1 << 22
# A merge that hides less than this share of the label's variance counts as hiding so much.
_LEAST: Final = 1e-9


@dataclass(frozen=True)
class Merged:
    """The cells that a label's rows ever form, by the price at which they are formed and merged.

    The price of a merge is the l1 that it adds, divided by the variance of the inputs that it hides. At a price limit ρ
    the cells with `born` <= ρ < `died` hold all rows.

    Attributes:
        centers: the codeword of each cell, float32 [C, K].
        born: [C], -inf for the first cells.
        died: [C], inf for the last one.
    """

    centers: Tensor
    born: Tensor
    died: Tensor

    def at(self, limit: float) -> Tensor:
        """Which cells there are at a price limit, bool [C]."""
        return (self.born <= limit) & ((limit < self.died) | self.died.isinf())


def middle(rows: Tensor) -> Tensor:
    """The probability vector of least mean l1 from rows [n, K]; float64 [K].

    It holds the columns' quantiles at one level: that at which they sum to one.
    """
    count = torch.full((1,), len(rows), dtype=torch.int64, device=rows.device)
    return _middles(rows.to(torch.float64).unsqueeze(0), count)[0]


def _middles(rows: Tensor, counts: Tensor) -> Tensor:
    """The `middle` of each group of rows: [P, n, K] → [P, K], infinite rows after the first counts [P] of a group."""
    levels = rows.sort(1).values
    totals = levels.sum(2)
    most = (counts - 1).unsqueeze(1)
    above = torch.minimum((totals < 1).sum(1, keepdim=True).clamp_min(1), most)
    below = (above - 1).clamp_min(0)
    low, high = totals.gather(1, below), totals.gather(1, above)
    share = ((1 - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)
    first, second = (levels.take_along_dim(at.unsqueeze(2), 1).squeeze(1) for at in (below, above))
    between = torch.lerp(first, second, share)
    return between / between.sum(1, keepdim=True)


def _middle_and_spread(rows: Tensor, parts: list[Tensor]) -> tuple[Tensor, Tensor]:
    """The `middle` of each part [P, K], and the sum of l1 from its rows to it [P]; float64."""
    found: list[tuple[Tensor, Tensor]] = []
    some: list[Tensor] = []
    largest = 0
    for part in parts:
        largest = max(largest, len(part))
        if some and (len(some) + 1) * largest * rows.shape[1] > _ENTRIES:
            found.append(_at_once(rows, some))
            some, largest = [], len(part)
        some.append(part)
    found.append(_at_once(rows, some))
    middles, spreads = zip(*found, strict=True)
    return torch.cat(middles), torch.cat(spreads)


def _at_once(rows: Tensor, parts: list[Tensor]) -> tuple[Tensor, Tensor]:
    """`_middle_and_spread` of few parts, padded to one length."""
    sizes = [len(part) for part in parts]
    counts = torch.tensor(sizes, dtype=torch.int64, device=rows.device)
    inside = torch.arange(max(sizes), dtype=torch.int64, device=rows.device) < counts.unsqueeze(1)
    index = torch.zeros_like(inside, dtype=torch.int64)
    index[inside] = torch.cat(parts)
    some = rows[index].to(torch.float64)
    middles = _middles(some.masked_fill(~inside.unsqueeze(2), torch.inf), counts)
    far = (some - middles.unsqueeze(1)).abs().sum(2)
    return middles, far.masked_fill(~inside, 0.0).sum(1)


def leading(vectors: Tensor, label: int, margin: float) -> Tensor:
    """The nearest vectors whose label leads by the margin, and by what every client can read; float32 [n, K]."""
    labels = torch.full_like(vectors[:, 0], label, dtype=torch.int64)
    lead = min(1.0, least_lead(margin) + 1e-6)
    return as_dtype(ops.project(vectors, label=labels, margin=lead), torch.float32, labels)


def merge(
    rows: Tensor,
    inputs: Tensor,
    label: int,
    *,
    cells: int,
    margin: float,
    generator: torch.Generator,
) -> Merged:
    """Divides the rows of a label into cells, and merges two at a time, always those of the lowest price.

    Args:
        rows: float32 [n, K], n ≥ 1.
        inputs: their inputs, float [n, D].
        label: theirs.
        cells: at most so many to begin with.
        margin: least lead of a codeword's label.
        generator: of the first cells, on the CPU.
    """
    parts = _first_cells(rows, cells, generator)
    centered = inputs - inputs.mean(0)
    least = _LEAST * float(centered.square().sum()) + torch.finfo(torch.float32).tiny

    centers, means, sizes, costs, members = [], [], [], [], []
    born, died = [], []

    def add(part: Tensor, price: float) -> int:
        some = rows[part]
        center = middle(some)
        centers.append(center)
        means.append(centered[part].mean(0))
        sizes.append(len(part))
        costs.append(float((some - center).abs().sum()))
        members.append(part)
        born.append(price)
        died.append(torch.inf)
        return len(centers) - 1

    def price(pairs: list[tuple[int, int]]) -> dict[tuple[int, int], float]:
        found = {}
        unions = [torch.cat((members[i], members[j])) for i, j in pairs]
        spreads = _middle_and_spread(rows, unions)[1].tolist() if pairs else []
        for (i, j), spread in zip(pairs, spreads, strict=True):
            added = spread - costs[i] - costs[j]
            apart = float((means[i] - means[j]).square().sum())
            hidden = sizes[i] * sizes[j] / (sizes[i] + sizes[j]) * apart
            found[i, j] = max(added, 0.0) / max(hidden, least)
        return found

    alive = [add(part, -torch.inf) for part in parts]
    prices = price([(i, j) for i in alive for j in alive if i < j])
    limit = -torch.inf
    while len(alive) > 1:
        (i, j), cheapest = min(prices.items(), key=lambda pair: pair[1])
        # A merge that only another one makes cheap is made together with it.
        limit = max(limit, cheapest)
        died[i] = died[j] = limit
        prices = {pair: value for pair, value in prices.items() if not {i, j} & set(pair)}
        alive = [k for k in alive if k not in (i, j)]
        union = add(torch.cat((members[i], members[j])), limit)
        prices |= price([(k, union) for k in alive])
        alive.append(union)
    prices_at = torch.tensor([born, died], dtype=torch.float64, device=rows.device)
    return Merged(leading(torch.stack(centers), label, margin), *prices_at)


def _first_cells(rows: Tensor, cells: int, generator: torch.Generator) -> list[Tensor]:
    """Rows of each cell by k-medians in l1, which starts at rows that are far apart."""
    first = int(torch.randint(len(rows), (1,), generator=generator, device="cpu"))
    centers = rows[first : first + 1]
    far = (rows - centers).abs().sum(1)
    for _ in range(min(cells, len(rows)) - 1):
        if float(far.sum()) <= 0:
            break
        chosen = int(torch.multinomial(far.cpu().double(), 1, generator=generator))
        centers = torch.cat((centers, rows[chosen : chosen + 1]))
        far = torch.minimum(far, (rows - rows[chosen]).abs().sum(1))
    parts: list[Tensor] = []
    for _ in range(_ROUNDS):
        nearest = torch.cdist(rows, centers, p=1).argmin(1)
        parts = [(nearest == i).nonzero().squeeze(1) for i in nearest.unique().tolist()]
        centers = _middle_and_spread(rows, parts)[0].to(rows.dtype)
    return parts
