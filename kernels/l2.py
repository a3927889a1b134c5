"""5. The l2 ball: q = Proj(p + s(z − p)) onto the set without ball, and a search on the slide s in [0, 1]."""

from __future__ import annotations

import triton
import triton.language as tl
from mipoison.kernels.roots import (
    MOST_TURNS,
    PATIENCE,
    RESOLUTION,
    ROUNDOFF,
    SLACK,
    any_of,
    midpoint,
)
from mipoison.kernels.rows import part
from mipoison.kernels.simplex import simplex_levels


@triton.jit
def _way(rows, CHUNKS: tl.constexpr):
    """Largest entry and l2 length of z − p; [R] each."""
    s = tl.sum(rows.total, 1) * 0 + 1
    longest, squares = s * 0, s * 0
    for i in range(CHUNKS):
        z, p, cols = part(rows, i, s, CHUNKS, False)
        d = tl.where(cols < rows.k, tl.abs(z - p), 0.0)
        longest = tl.maximum(longest, tl.max(d, 1))
        squares += tl.sum(d * d, 1)
    return longest, tl.sqrt(squares)


@triton.jit
def _slide(rows, t, m, s, base, tau, CHUNKS: tl.constexpr):
    """‖q − p‖² and, with v = J(z − p) the derivative of q in s, ‖v‖² and ⟨v, q − p⟩.

    J averages over the label and the entries at its cap, then subtracts the mean over the support;
    zero elsewhere.
    """
    # An entry counts as capped within rounding; the bracketed search tolerates a wrong guess.
    cap = -tau - m
    pooled, free, members, others, square = s * 0, s * 0, s * 0, s * 0, s * 0
    one = s * 0 + 1
    for i in range(CHUNKS):
        z, p, cols = part(rows, i, one, CHUNKS, False)
        slid, _, _ = part(rows, i, s, CHUNKS, True)
        d = tl.where(cols < rows.k, z - p, 0.0)
        q = tl.minimum(tl.maximum(slid - base[:, None] - tau[:, None], 0.0), cap[:, None])
        mine = cols == t[:, None]
        q = tl.where(mine, -tau[:, None], q)
        square += tl.sum((q - p) * (q - p), 1)
        tied = mine | ((q > cap[:, None] - 1e-15) & (q > 0))
        apart = (q > 0) & ~tied
        pooled += tl.sum(tl.where(tied, d, 0.0), 1)
        free += tl.sum(tl.where(apart, d, 0.0), 1)
        members += tl.sum(tied.to(tl.float64), 1)
        others += tl.sum(apart.to(tl.float64), 1)
    mean = (pooled + free) / (members + others)
    together = pooled / members - mean
    speed, drift = s * 0, s * 0
    for i in range(CHUNKS):
        z, p, cols = part(rows, i, one, CHUNKS, False)
        slid, _, _ = part(rows, i, s, CHUNKS, True)
        d = tl.where(cols < rows.k, z - p, 0.0)
        q = tl.minimum(tl.maximum(slid - base[:, None] - tau[:, None], 0.0), cap[:, None])
        mine = cols == t[:, None]
        q = tl.where(mine, -tau[:, None], q)
        tied = mine | ((q > cap[:, None] - 1e-15) & (q > 0))
        v = tl.where(tied, together[:, None], tl.where(q > 0, d - mean[:, None], 0.0))
        speed += tl.sum(v * v, 1)
        drift += tl.sum(v * (q - p), 1)
    return tl.sqrt(square), speed, drift


@triton.jit
def l2_levels(rows, t, m, epsilon, todo, CHUNKS: tl.constexpr):
    """The slide s and the levels of the projection onto C with the l2 ball, on the rows todo, whose ball is active.

    Returns:
        s, base, tau as `simplex_levels` has them for the slid rows; and where the set is empty.
    """
    longest, way = _way(rows, CHUNKS)
    # First s = 0: whether the projection of p is in the ball.
    s, lo, hi = way * 0, way * 0, way * 0 + 1
    base, tau = s, s
    empty, closing = todo & False, todo & False
    turn = 0
    while any_of(todo) & (turn < MOST_TURNS):
        a, b = simplex_levels(rows, t, m, s, todo, CHUNKS, True)
        base, tau = tl.where(todo, a, base), tl.where(todo, b, tau)
        todo = todo & ~closing
        far, speed, drift = _slide(rows, t, m, s, base, tau, CHUNKS)
        if turn == 0:
            empty = todo & (far > epsilon + SLACK)
            todo = todo & (far < epsilon)
        lo = tl.where(todo & (far <= epsilon), s, lo)
        hi = tl.where(todo & (far > epsilon), s, hi)
        # |q − p + δv|² = ε²: exact while the active set stays the same.
        c = (far - epsilon) * (far + epsilon)
        root = drift + tl.sqrt(tl.maximum(drift * drift - speed * c, 0.0))
        known = (speed > 0) & (root > 0)
        delta = -c / tl.where(known, root, 1.0)
        small = tl.abs(delta) * longest <= RESOLUTION + ROUNDOFF * s * longest
        # Projections are non-expansive: from p inside the set, a step of ε never leaves the ball.
        leap = (turn == 0) & (far <= SLACK)
        point = tl.where(leap, tl.minimum(epsilon / tl.maximum(way, 1e-300), 1.0), s + delta)
        todo = todo & (leap | ~(known & small))
        refused = ~((point > lo) & (point < hi)) | ~(known | leap)
        refused = refused | ((turn >= PATIENCE) & (turn % 4 != 0))
        point = tl.where(refused, midpoint(lo, hi), point)
        stuck = ~((point > lo) & (point < hi))
        closing = closing | (todo & stuck)
        s = tl.where(todo, tl.where(stuck, lo, point), s)
        turn += 1
    return s, base, tau, empty
