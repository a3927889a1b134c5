"""The one-dimensional root of a box, and the projection inside an l∞ ball."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from mipoison.reference.loops import traced
from mipoison.reference.roots import monotone_root
from mipoison.reference.rounding import at, put

# Beyond this |τ|, z − τ has lost digits: the root is solved again around the τ found.
_FAR: Final = 64.0


def box_root(z: Tensor, low: Tensor, high: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
    """Finds τ with Σ_j clip(z_j − τ, low_j, high_j) = total.

    Args:
        z: points, float64 [N, K].
        low: lower bounds, [N, K].
        high: upper bounds ≥ low, [N, K].
        total: wanted sums between Σ low and Σ high, [N].

    Returns:
        the clipped rows [N, K] and τ [N].
    """

    def root(z: Tensor) -> Tensor:
        def missing(tau: Tensor) -> tuple[Tensor, Tensor]:
            moved = z - tau.unsqueeze(-1)
            free = (moved > low) & (moved < high)
            value = total - torch.minimum(torch.maximum(moved, low), high).sum(-1)
            return value, free.sum(-1).to(z.dtype)

        return monotone_root(missing, (z - high).amin(-1), (z - low).amax(-1))

    tau = root(z)
    far = tau.abs() > _FAR
    if traced() or bool(far.any()):
        shift = torch.where(far, tau, 0.0)
        z = z - shift.unsqueeze(-1)
        near = torch.where(far, root(z), tau)
        tau = shift + near
    else:
        near = tau
    return torch.minimum(torch.maximum(z - near.unsqueeze(-1), low), high), tau


def cap_root(rest: Callable[[Tensor], tuple[Tensor, Tensor]], low: Tensor, high: Tensor) -> Tensor:
    """Minimises over u = q_t where the label constraint binds and caps every other entry at c = u − m.

    Args:
        rest: u [N] → (the best row with q_t = u, derivative of the partial minimum at u); the
            derivative increases with u and may jump.
        low: smallest feasible u, [N].
        high: largest feasible u, [N].

    Returns:
        the rows [N, K].
    """

    def derivative(u: Tensor) -> tuple[Tensor, Tensor]:
        value = rest(u)[1]
        return value, torch.zeros_like(value)

    return rest(monotone_root(derivative, low, high))[0]


def linf_interval(p: Tensor, t: Tensor, m: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """The feasible interval of u = q_t in the l∞ ball: (low, high), each [N]; empty where low > high."""
    low, high = (p - epsilon).clamp_min(0.0), (p + epsilon).clamp_max(1.0)
    low_t, high_t = at(low, t), at(high, t)
    others = put(high, t, 0.0)

    def surplus(u: Tensor) -> tuple[Tensor, Tensor]:
        cap = (u - m).unsqueeze(-1)
        filled = put(torch.minimum(others, cap), t, 0.0)
        return u + filled.sum(-1) - 1, 1 + (put(others, t, -1.0) > cap).sum(-1).to(p.dtype)

    fullest = monotone_root(surplus, m, torch.ones_like(m))
    smallest = torch.maximum(low_t, m + put(low, t, 0.0).amax(-1))
    largest = torch.minimum(high_t, 1 - put(low, t, 0.0).sum(-1))
    return torch.maximum(smallest, fullest), largest


def project_linf_free(z: Tensor, p: Tensor, epsilon: float) -> Tensor:
    """Argmin ‖q − z‖² subject to Σq = 1, q ≥ 0, ‖q − p‖∞ ≤ ε: without the label constraint."""
    low, high = (p - epsilon).clamp_min(0.0), (p + epsilon).clamp_max(1.0)
    return box_root(z, low, high, torch.ones_like(z[:, 0]))[0]


def project_linf_bound(z: Tensor, p: Tensor, t: Tensor, m: Tensor, epsilon: float) -> Tensor:
    """Argmin ‖q − z‖² over C with the l∞ ball, where the label constraint binds; the interval is not empty."""
    low, high = (p - epsilon).clamp_min(0.0), (p + epsilon).clamp_max(1.0)
    one = torch.ones_like(m)

    def rest(u: Tensor) -> tuple[Tensor, Tensor]:
        cap = (u - m).unsqueeze(-1)
        top = torch.maximum(torch.minimum(high, cap), low)
        q, tau = box_root(z, put(low, t, u), put(top, t, u), one)
        pressure = (z - tau.unsqueeze(-1) - cap).clamp_min(0.0)
        capped = put(torch.where(cap < high, pressure, 0.0), t, 0.0)
        return q, u - at(z, t) + tau - capped.sum(-1)

    smallest, largest = linf_interval(p, t, m, epsilon)
    return cap_root(rest, torch.minimum(smallest, largest), largest)
