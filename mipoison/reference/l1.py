"""Projection inside an l1 ball, the default norm.

Both rows sum to one, so raises equal lowers and ‖q − p‖₁ ≤ ε means: raises ≤ ε/2. With the ball active the raised
entries are z_j − τ₊, the lowered ones z_j − τ₋, and those between stay at p_j, where τ₊ = τ + λ and τ₋ = τ − λ for the
multipliers τ of the sum and λ of the ball. Each level is one root, *independent* of the other: no search on λ is nested
around one on τ.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mipoison.reference.linf import box_root, cap_root
from mipoison.reference.roots import SLACK, monotone_root
from mipoison.reference.rounding import at, put
from mipoison.reference.simplex import pool


def l1_interval(p: Tensor, t: Tensor, m: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """The feasible interval of u = q_t in the l1 ball: (low, high), each [N]; empty where low > high.

    The entries above the cap c = u − m may come down by ε/2 in total, and the row must be able to sum to one under c.
    """
    p_t = at(p, t)
    others = put(p, t, 0.0)
    k = p.shape[-1]

    def slack(u: Tensor) -> tuple[Tensor, Tensor]:
        excess = (others - (u - m).unsqueeze(-1)).clamp_min(0.0)
        lowered = (p_t - u).clamp_min(0.0) + excess.sum(-1)
        return epsilon / 2 - lowered, (excess > 0).sum(-1) + (p_t > u).to(p.dtype)

    capacity = (1 + (k - 1) * m) / k
    smallest = torch.maximum(capacity, monotone_root(slack, m, torch.ones_like(m)))
    # The shortest move into the cone pools p, which decides where the interval shrinks to a point.
    largest = (p_t + epsilon / 2).clamp_max(1.0)
    nearest = pool(p, t, m)
    feasible = nearest <= largest + SLACK
    return torch.where(feasible, torch.minimum(smallest, largest), torch.inf), largest


def project_l1_free(z: Tensor, p: Tensor, epsilon: float) -> Tensor:
    """Argmin ‖q − z‖² subject to Σq = 1, q ≥ 0, ‖q − p‖₁ = ε: without the label constraint, the ball active."""
    total = torch.ones_like(z[:, 0])
    raised, _ = box_root(z, p, p + epsilon / 2, total + epsilon / 2)
    lowered, _ = box_root(z, torch.zeros_like(p), p, total - epsilon / 2)
    return raised + (lowered - p)


def project_l1_bound(z: Tensor, p: Tensor, t: Tensor, m: Tensor, epsilon: float) -> Tensor:
    """Argmin ‖q − z‖² over C with the l1 ball, where the label constraint binds; the interval is not empty."""
    one, p_t, zero = torch.ones_like(m), at(p, t), torch.zeros_like(p)

    def rest(u: Tensor) -> tuple[Tensor, Tensor]:
        cap = (u - m).unsqueeze(-1)
        top = cap.expand_as(p)
        # 1. The ball inactive: one root under the cap.
        q, tau = box_root(z, put(zero, t, u), put(top, t, u), one)
        active = ((q - p).clamp_min(0.0).sum(-1) > epsilon / 2).unsqueeze(-1)
        # 2. The ball active: one root for the raises, one for the lowers.
        up, tau_up = box_root(
            z,
            put(p, t, torch.maximum(p_t, u)),
            put(torch.maximum(p, top), t, torch.maximum(p_t, u)),
            one + epsilon / 2,
        )
        down, tau_down = box_root(
            z,
            put(zero, t, torch.minimum(p_t, u)),
            put(torch.minimum(p, top), t, torch.minimum(p_t, u)),
            one - epsilon / 2,
        )
        q = torch.where(active, up + (down - p), q)
        # 3. The derivative in u: each capped entry contributes its multiplier, at the level of its side.
        taus = torch.where(
            active,
            torch.where(top > p, tau_up.unsqueeze(-1), tau_down.unsqueeze(-1)),
            tau.unsqueeze(-1),
        )
        tau_t = torch.where(active.squeeze(-1), torch.where(u > p_t, tau_up, tau_down), tau)
        pressure = put((z - taus - cap).clamp_min(0.0), t, 0.0)
        return put(q, t, u), u - at(z, t) + tau_t - pressure.sum(-1)

    return cap_root(rest, *l1_interval(p, t, m, epsilon))
