"""Projection onto the part of the simplex where one label wins: no ball."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor

from mipoison.reference.loops import repeat
from mipoison.reference.rounding import at, put

# Newton converges in about a dozen steps; the bound guards against endless steps of rounding size.
MOST_NEWTON_STEPS: Final = 200


def pool(z: Tensor, t: Tensor, m: Tensor) -> Tensor:
    r"""Solves w = z_t + Σ_{j≠t} (z_j + m − w)_+, the projection onto the cone q_t ≥ q_j + m.

    Newton from w = z_t is monotone and finite. The projection is z'_t = w, z'_j = min(z_j, w − m).

    Args:
        z: points, float64 [N, K].
        t: the label that must win, int64 [N].
        m: margins, float64 [N].

    Returns:
        w, float64 [N].
    """
    rest = put(z, t, -torch.inf) + m.unsqueeze(-1)
    z_t = at(z, t)

    def newton(_: Any, w: Tensor, done: Tensor) -> tuple[Tensor, Tensor]:
        excess = (rest - w.unsqueeze(-1)).clamp_min(0.0)
        step = (excess.sum(-1) + z_t - w) / (1 + (excess > 0).sum(-1))
        done = done | ~(w + step > w)
        return torch.where(done, w, w + step), done

    return repeat(newton, (z_t, torch.zeros_like(z_t, dtype=torch.bool)), MOST_NEWTON_STEPS)[0]


def threshold(z: Tensor, total: Tensor) -> Tensor:
    """Solves Σ_j (z_j − τ)_+ = total > 0; Newton from the left, monotone.

    Returns:
        τ, float64 [N].
    """

    def newton(_: Any, tau: Tensor, done: Tensor) -> tuple[Tensor, Tensor]:
        excess = (z - tau.unsqueeze(-1)).clamp_min(0.0)
        step = (excess.sum(-1) - total) / (excess > 0).sum(-1)
        done = done | ~(tau + step > tau)
        return torch.where(done, tau, tau + step), done

    tau = z.amax(-1) - total
    return repeat(newton, (tau, torch.zeros_like(tau, dtype=torch.bool)), MOST_NEWTON_STEPS)[0]


def project_simplex(z: Tensor, t: Tensor, m: Tensor) -> Tensor:
    """Argmin ‖q − z‖² subject to Σq = 1, q ≥ 0, q_t ≥ q_j + m for all j ≠ t.

    1. Pool onto the cone: w.
    2. Threshold onto the simplex: τ.
    3. q_t = w − τ, q_j = (min(z_j, w − m) − τ)_+.

    Projection onto the simplex keeps the order of the coordinates, so the two one-dimensional problems can be
    solved in turn.

    Args:
        z: points, float64 [N, K].
        t: the label that must win, int64 [N].
        m: margins in [0, 1], float64 [N].

    Returns:
        q, float64 [N, K], unrounded.
    """
    # The projection does not depend on a constant added to the row; near zero the sums keep their digits.
    z = z - z.amax(-1, keepdim=True)
    w = pool(z, t, m)
    capped = put(torch.minimum(z, (w - m).unsqueeze(-1)), t, w)
    capped = capped - w.unsqueeze(-1)
    tau = threshold(capped, torch.ones_like(w))
    return (capped - tau.unsqueeze(-1)).clamp_min(0.0)
