"""The bounded move toward a vector of the same label."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

from mipoison.reference.project import distance, radius
from mipoison.reference.rounding import finish, label_of, lead, renormalise, safe_answer, valid_rows
from mipoison.reference.rows import on_rows
from mipoison.reference.simplex import threshold

STYLES: Final = ("straight", "waterfill", "sparse")
# Changes and entries nearer to each other than this count as equal: rounding would decide which is larger.
TIE: Final = 1e-14


def straight(p: Tensor, v: Tensor, epsilon: float, norm: str) -> Tensor:
    """Q = p + min(1, ε/‖v − p‖)(v − p): the point of the segment where it leaves the ball."""
    length = distance(v, p, norm)
    share = torch.where(length > epsilon, epsilon / length, 1.0).unsqueeze(-1)
    return p + share * (v - p)


def level(d: Tensor, budget: float) -> Tensor:
    """min(d, θ) with Σ min(d_j, θ) = min(budget, Σd), for d ≥ 0: small entries are filled completely first.

    θ solves Σ (d_j − θ)_+ = Σd − budget, which is the threshold of a simplex.
    """
    overflow = d.sum(-1) - budget
    theta = threshold(d, overflow.clamp_min(torch.finfo(d.dtype).tiny))
    filled = torch.minimum(d, theta.clamp_min(0.0).unsqueeze(-1))
    return torch.where((overflow > 0).unsqueeze(-1), filled, d)


def waterfill(p: Tensor, v: Tensor, epsilon: float) -> Tensor:
    """Spends ε/2 on raising and ε/2 on lowering, where no entry changes by more than its side's level.

    Small entries are thus replaced by those of v completely, which removes what their logarithms tell. The
    label is kept: with p_t ≥ p_j and v_t ≥ v_j, one level for each side keeps q_t ≥ q_j in all four
    combinations of signs.
    """
    d = v - p
    raised, lowered = level(d.clamp_min(0.0), epsilon / 2), level((-d).clamp_min(0.0), epsilon / 2)
    return p + (raised - lowered)


def smallest_first(d: Tensor, budget: float) -> Tensor:
    """Which share of each d ≥ 0 is taken: all of the smallest, while they fit into the budget, and none of the others.

    θ is the largest entry such that Σ_{d_j < θ} d_j ≤ budget. Entries that equal it share what is left, and with
    Σd ≤ budget all are taken.
    """
    ordered = d.sort(-1).values
    before = ordered.cumsum(-1) - ordered
    place = (before <= budget).sum(-1, keepdim=True) - 1
    theta = ordered.gather(-1, place.clamp_min(0))
    full, tied = d < theta - TIE, (d - theta).abs() <= TIE
    # Rounding may leave the share beyond its range, and entries negative.
    left = (budget - torch.where(full, d, 0.0).sum(-1, keepdim=True)).clamp_min(0.0)
    equal = torch.where(tied, d, 0.0).sum(-1, keepdim=True)
    part = (left / equal.clamp_min(torch.finfo(d.dtype).tiny)).clamp_max(1.0)
    share = torch.where(full, 1.0, torch.where(tied, part, 0.0))
    return torch.where(d.sum(-1, keepdim=True) > budget, share, 1.0)


def sparse(p: Tensor, v: Tensor, t: Tensor, epsilon: float) -> Tensor:
    """Replaces the entries that differ least from those of v, ε/2 raised and ε/2 lowered, and leaves the others.

    Of all moves of its length it makes the most entries those of v. It may lose the label t, where v has larger other
    entries than p: such rows are moved by `waterfill`.
    """
    d = v - p
    up, down = (smallest_first(side.clamp_min(0.0), epsilon / 2) for side in (d, -d))
    share = torch.where(d > 0, up, down)
    q = torch.where(share == 1.0, v, p + share * d)
    lost = lead(q, t) < -TIE
    return torch.where(lost.unsqueeze(-1), waterfill(p, v, epsilon), q)


def move(
    p: Tensor, target: Tensor, epsilon: float | None, norm: str, style: str
) -> tuple[Tensor, Tensor]:
    """A point of C(p, label of p, ε, 0) on the way to the target, a vector of the same label.

    C is convex and contains p; without the ball it contains the target, too. So the label holds by construction, but
    for sparse moves, which are checked.
    Shapes and meanings as in `mipoison.move`.

    Returns:
        the moved rows [N, K] and the mask of valid rows [N].
    """
    t, ball = label_of(p), radius(epsilon)
    valid = valid_rows(p) & valid_rows(target) & (label_of(target) == t)

    def moved(p: Tensor, v: Tensor, t: Tensor) -> tuple[Tensor]:
        start, end = renormalise(p), renormalise(v)
        if math.isinf(ball):
            q = end
        elif style == "straight":
            q = straight(start, end, ball, norm)
        elif style == "waterfill":
            q = waterfill(start, end, ball)
        else:
            q = sparse(start, end, t, ball)
        return (finish(q, t, torch.zeros_like(q[:, 0]), p.dtype),)

    (q,) = on_rows(valid, (safe_answer(p, t, p.dtype),), moved, p, target, t)
    return q, valid
