"""Cover rows with few centers, so that none lies farther than epsilon from one."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

# k-means ends where no center moves farther (l2), as in the authors' code, or after so many rounds.
_STILL: Final = 1e-3
_ROUNDS: Final = 100
# A codebook of more codewords a label tells each row about as much as the row itself, and takes as long to look up.
_MOST: Final = 4096


class Cover:
    """Centers for one label's rows [n, K]: k-means, and more of them until no row lies farther than ε (l1) from one.

    Distances are l1 and centers are means. Of the rows that lie too far, those that are also farther than 2ε from each
    other become centers at once, since no center is near two of them. The authors add the farthest alone: of 600
    rows of ten classes that took forty times as long at ε = .02, for as many centers; of 600 rows of five classes at
    ε = .5 it made 22 centers in place of 24.

    Args:
        rows: of one label, at least one; float64.
    """

    def __init__(self, rows: Tensor) -> None:
        self._rows = rows
        self._last: tuple[float, Tensor] | None = None

    def within(self, epsilon: float) -> Tensor:
        """Centers of which no row is farther than ε, [C, K].

        Raises:
            ValueError: if there would have to be more than 4096.
        """
        if self._last is None or self._last[0] != epsilon:
            self._last = epsilon, self._found(epsilon)
        return self._last[1]

    def _found(self, epsilon: float) -> Tensor:
        count, centers = 0, self._rows.mean(0, keepdim=True)
        while True:
            centers, distance = self._settled(centers)
            far = (distance > epsilon).nonzero().flatten()
            if len(far) == 0:
                return centers
            far = far[distance[far].argsort(descending=True, stable=True)]
            # Where k-means merges what was added, it has the last word no more.
            grows, count = len(centers) > count, len(centers)
            added = self._apart(far, (2 if grows else 1) * epsilon)
            centers = torch.cat((centers, self._rows[added]))
            if len(centers) > _MOST:
                raise ValueError(
                    f"epsilon: expected one for which {_MOST} codewords a label suffice, got {epsilon:g} for "
                    f"{len(self._rows)} rows of a label; take a larger epsilon or fewer rows"
                )
            if not grows:
                return centers

    def _settled(self, centers: Tensor) -> tuple[Tensor, Tensor]:
        """Rounds of k-means; the centers that have rows, and each row's distance to the nearest, [n]."""
        for _ in range(_ROUNDS):
            nearest = self._distances(centers).argmin(1)
            sums = torch.zeros_like(centers).index_add_(0, nearest, self._rows)
            count = nearest.bincount(minlength=len(centers)).unsqueeze(1)
            moved = torch.where(count > 0, sums / count.clamp_min(1), centers)
            still = float((moved - centers).norm(dim=1).max()) < _STILL
            centers = moved
            if still:
                break
        centers = centers[self._distances(centers).argmin(1).unique()]
        return centers, self._distances(centers).amin(1)

    def _apart(self, rows: Tensor, least: float) -> Tensor:
        """Those of the rows, in their order, that lie farther than the least from all that were taken before."""
        taken = []
        while len(rows):
            taken.append(rows[:1])
            distance = torch.cdist(self._rows[rows], self._rows[rows[:1]], p=1).flatten()
            rows = rows[distance > least]
        return torch.cat(taken)

    def _distances(self, centers: Tensor) -> Tensor:
        return torch.cdist(self._rows, centers, p=1)
