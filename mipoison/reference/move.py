"""The bounded move toward a vector of the same label."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mipoison.reference.project import distance, radius
from mipoison.reference.rounding import finish, label_of, renormalise, safe_answer, valid_rows
from mipoison.reference.rows import on_rows
from mipoison.reference.simplex import threshold


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


def move(
    p: Tensor, target: Tensor, epsilon: float | None, norm: str, style: str
) -> tuple[Tensor, Tensor]:
    """A point of C(p, label of p, ε, 0) on the way to the target, a vector of the same label.

    C is convex and contains p; without the ball it contains the target, too. So the label holds by construction.
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
        else:
            q = waterfill(start, end, ball)
        return (finish(q, t, torch.zeros_like(q[:, 0]), p.dtype),)

    (q,) = on_rows(valid, (safe_answer(p, t, p.dtype),), moved, p, target, t)
    return q, valid
