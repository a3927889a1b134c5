"""1. No ball: the pooled level w, then the simplex level τ."""

from __future__ import annotations

import triton
import triton.language as tl
from mipoison.kernels.roots import MOST_TURNS, any_of
from mipoison.kernels.rows import part


@triton.jit
def _peaks(rows, t, s, CHUNKS: tl.constexpr, SLIDE: tl.constexpr):
    """z_t and the largest other entry, both [R]."""
    z_t = s * 0
    rival = z_t + float("-inf")
    for i in range(CHUNKS):
        z, _, cols = part(rows, i, s, CHUNKS, SLIDE)
        mine = cols == t[:, None]
        z_t += tl.sum(tl.where(mine, z, 0.0), 1)
        rival = tl.maximum(rival, tl.max(tl.where(mine, float("-inf"), z), 1))
    return z_t, rival


@triton.jit
def _pool(rows, t, m, s, top, z_t, todo, CHUNKS: tl.constexpr, SLIDE: tl.constexpr):
    """Solves w = z_t + Σ_{j≠t} (z_j + m − w)_+ where todo; Newton from the left. w and z_t are less the row's top."""
    w = z_t
    turn = 0
    while any_of(todo) & (turn < MOST_TURNS):
        total, count = w * 0, w * 0
        for i in range(CHUNKS):
            z, _, cols = part(rows, i, s, CHUNKS, SLIDE)
            over = (z - top[:, None]) + (m - w)[:, None]
            over = tl.where(cols == t[:, None], 0.0, tl.maximum(over, 0.0))
            total += tl.sum(over, 1)
            count += tl.sum((over > 0).to(tl.float64), 1)
        step = (total + z_t - w) / (1 + count)
        todo = todo & (w + step > w)
        w = tl.where(todo, w + step, w)
        turn += 1
    return w


@triton.jit
def simplex_levels(rows, t, m, s, todo, CHUNKS: tl.constexpr, SLIDE: tl.constexpr):
    """Levels of the projection onto the simplex and the cone q_t ≥ q_j + m, on the rows todo.

    Returns:
        base and tau with q_t = −tau, q_j = clip(z_j − base − tau, 0, −tau − m); [R] each.
    """
    z_t, rival = _peaks(rows, t, s, CHUNKS, SLIDE)
    # 1. Pool onto the cone, near zero, where the sums are exact even for huge rows.
    top = tl.maximum(z_t, rival)
    pooled = todo & (rival + m > z_t)
    w = _pool(rows, t, m, s, top, z_t - top, pooled, CHUNKS, SLIDE)
    base = tl.where(pooled, top + w, z_t)
    # 2. Threshold onto the simplex, by Newton from the left: the capped entries are ≤ 0, the label's is 0.
    tau = base * 0 - 1
    turn = 0
    while any_of(todo) & (turn < MOST_TURNS):
        total, count = tau * 0, tau * 0
        for i in range(CHUNKS):
            z, _, cols = part(rows, i, s, CHUNKS, SLIDE)
            x = tl.minimum(z - base[:, None], -m[:, None]) - tau[:, None]
            x = tl.where(cols == t[:, None], 0.0, tl.maximum(x, 0.0))
            total += tl.sum(x, 1)
            count += tl.sum((x > 0).to(tl.float64), 1)
        # The label's entry is −tau > 0 all the way.
        step = (total - tau - 1) / (1 + count)
        todo = todo & (tau + step > tau)
        tau = tl.where(todo, tau + step, tau)
        turn += 1
    return base, tau
