"""Projection inside an l2 ball: the projection of p + s(z − p), with s where it meets the border of the ball."""

from __future__ import annotations

import torch
from torch import Tensor

from mipoison.reference.derivative import tangent
from mipoison.reference.roots import monotone_root
from mipoison.reference.simplex import project_simplex


def project_l2_bound(
    z: Tensor, p: Tensor, t: Tensor, m: Tensor, epsilon: float
) -> tuple[Tensor, Tensor]:
    """Argmin ‖q − z‖² over C with the l2 ball, where the ball is active; the set is not empty.

    The multiplier of the ball turns the point to project into p + s(z − p), 0 < s ≤ 1: q(s) is its projection
    without a ball and ‖q(s) − p‖ increases in s.

    Returns:
        q [N, K] and s [N].
    """
    toward = z - p

    def excess(s: Tensor) -> tuple[Tensor, Tensor]:
        q = project_simplex(p + s.unsqueeze(-1) * toward, t, m)
        move = q - p
        distance = move.norm(dim=-1)
        speed = tangent(toward, q, p, t, m, torch.inf, "l2")
        return distance - epsilon, (move * speed).sum(-1) / distance.clamp_min(1e-300)

    # Projections are non-expansive, so where p is in C this start is inside the ball.
    start = epsilon / toward.norm(dim=-1)
    s = monotone_root(excess, torch.zeros_like(m), torch.ones_like(m), start)
    return project_simplex(p + s.unsqueeze(-1) * toward, t, m), s
