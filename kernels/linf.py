"""The l∞ ball: a box, which gives one root in τ (step 3 of the reference's projection).

Where the label binds, an outer root in the cap c = u − m is searched around it (step 4).
"""

from __future__ import annotations

import triton
import triton.language as tl
from mipoison.kernels.roots import (
    MOST_TURNS,
    NEAR,
    ROUNDOFF,
    SLACK,
    advance,
    any_of,
    begin,
    midpoint,
    newton,
    shrink,
    step_level,
)
from mipoison.kernels.rows import part


@triton.jit
def _bounds(p, cols, k, epsilon):
    """The box [l, h]; [0, 0] beyond the row."""
    inside = cols < k
    epsilon = epsilon[:, None]
    return (
        tl.where(inside, tl.maximum(p - epsilon, 0.0), 0.0),
        tl.where(inside, tl.minimum(p + epsilon, 1.0), 0.0),
    )


@triton.jit
def _brackets(rows, t, epsilon, CHUNKS: tl.constexpr):
    """A bracket of every τ; then z_t, l_t, h_t, the largest other l and the sum of the other l; [R] each."""
    s = tl.sum(rows.total, 1) * 0
    least, most = s + float("inf"), s + float("-inf")
    z_t, low_t, high_t, low_top, low_sum = s, s, s, s, s
    for i in range(CHUNKS):
        z, p, cols = part(rows, i, s, CHUNKS, False)
        low, high = _bounds(p, cols, rows.k, epsilon)
        mine = cols == t[:, None]
        z_t += tl.sum(tl.where(mine, z, 0.0), 1)
        low_t += tl.sum(tl.where(mine, low, 0.0), 1)
        high_t += tl.sum(tl.where(mine, high, 0.0), 1)
        low_top = tl.maximum(low_top, tl.max(tl.where(mine, 0.0, low), 1))
        low_sum += tl.sum(tl.where(mine, 0.0, low), 1)
        least = tl.minimum(least, tl.min(tl.where(cols < rows.k, z - high, float("inf")), 1))
        most = tl.maximum(most, tl.max(z - low, 1))
    least -= 1 + 4 * ROUNDOFF * tl.abs(least)
    most += 1 + 4 * ROUNDOFF * tl.abs(most)
    return least, most, z_t, low_t, high_t, low_top, low_sum


@triton.jit
def _fill(rows, t, bound, cap, base, tau, epsilon, CHUNKS: tl.constexpr):
    """Σ clip(z_j − τ, l_j, min(h_j, cap)) and how many lie between; without the label where it is bound."""
    total, free = tau * 0, tau * 0
    for i in range(CHUNKS):
        z, p, cols = part(rows, i, tau, CHUNKS, False)
        low, high = _bounds(p, cols, rows.k, epsilon)
        high = tl.minimum(high, cap[:, None])
        y = z - base[:, None] - tau[:, None]
        member = ~((cols == t[:, None]) & bound[:, None])
        x = tl.where(member, tl.maximum(tl.minimum(y, high), low), 0.0)
        total += tl.sum(x, 1)
        free += tl.sum(((y > low) & (high > y) & member).to(tl.float64), 1)
    return total, free


@triton.jit
def _leads(rows, t, m, base, tau, epsilon, CHUNKS: tl.constexpr):
    """Whether the solution without the label constraint keeps the label; and its q_t."""
    q_t, rival = tau * 0, tau * 0
    for i in range(CHUNKS):
        z, p, cols = part(rows, i, tau, CHUNKS, False)
        low, high = _bounds(p, cols, rows.k, epsilon)
        q = tl.maximum(tl.minimum(z - base[:, None] - tau[:, None], high), low)
        mine = cols == t[:, None]
        q_t += tl.sum(tl.where(mine, q, 0.0), 1)
        rival = tl.maximum(rival, tl.max(tl.where(mine, 0.0, q), 1))
    return q_t >= rival + m, q_t


@triton.jit
def _smallest(rows, t, m, first, last, epsilon, todo, CHUNKS: tl.constexpr):
    """The least u ≥ first at which the row can still sum to one under the cap u − m; and what is missing there."""
    u, missing, turn = first, first * 0, 0
    while any_of(todo) & (turn < MOST_TURNS):
        capacity, shortened = u * 0, u * 0
        for i in range(CHUNKS):
            _, p, cols = part(rows, i, u, CHUNKS, False)
            _, high = _bounds(p, cols, rows.k, epsilon)
            high = tl.where(cols == t[:, None], 0.0, high)
            cap = (u - m)[:, None]
            capacity += tl.sum(tl.minimum(high, cap), 1)
            shortened += tl.sum((high > cap).to(tl.float64), 1)
        missing = tl.where(todo, 1 - u - capacity, missing)
        point = tl.minimum(u + missing / (1 + shortened), last)
        todo = todo & (point > u)
        u = tl.where(todo, point, u)
        turn += 1
    return u, missing


@triton.jit
def _pull(rows, t, m, u, cap, z_t, base, tau, free, epsilon, CHUNKS: tl.constexpr):
    """−φ(u), φ the derivative of the smallest squared distance once q_t = u, and its slope.

    φ jumps up where the cap rises past a bound h_j; where it jumps over zero the value is 0.
    """
    force, held, tied = u * 0, u * 0, u * 0
    for i in range(CHUNKS):
        z, p, cols = part(rows, i, u, CHUNKS, False)
        _, high = _bounds(p, cols, rows.k, epsilon)
        over = z - base[:, None] - tau[:, None] - cap[:, None]
        pressed = (over > 0) & (cols != t[:, None])
        above = pressed & (high > cap[:, None])
        force += tl.sum(tl.where(above, over, 0.0), 1)
        held += tl.sum(above.to(tl.float64), 1)
        tied += tl.sum(tl.where(pressed & (high == cap[:, None]), over, 0.0), 1)
    right = u + (base - z_t + tau) - force
    left = right - tied
    slope = tl.where(free > 0, (1 + held) * (1 + (1 + held) / tl.maximum(free, 1.0)), 0.0)
    value = tl.where(left > 0, -left, -right)
    value = tl.where((left <= 0) & (right >= 0), 0.0, value)
    return value, tl.where(tied == 0, -slope, 0.0)


@triton.jit
def _nearest_jump(rows, t, lo, hi, epsilon, CHUNKS: tl.constexpr):
    """The bound h_j in the bracket that is nearest to its middle; the middle where there is none."""
    middle = midpoint(lo, hi)
    gap, jump = hi - lo, middle
    for i in range(CHUNKS):
        _, p, cols = part(rows, i, lo, CHUNKS, False)
        _, high = _bounds(p, cols, rows.k, epsilon)
        fits = (high > lo[:, None]) & (high < hi[:, None]) & (cols != t[:, None])
        far = tl.where(fits & (cols < rows.k), tl.abs(high - middle[:, None]), float("inf"))
        best = tl.min(far, 1)
        here = tl.min(tl.where(far == best[:, None], high, float("inf")), 1)
        jump = tl.where(best < gap, here, jump)
        gap = tl.minimum(gap, best)
    return jump


@triton.jit
def linf_levels(rows, t, m, epsilon, todo, CHUNKS: tl.constexpr):
    """Levels of the projection onto C with the l∞ ball, on the rows todo, whose ball is active.

    Returns:
        base, tau, cap, u with q_t = u where the cap is finite and
        q_j = clip(z_j − base − tau, l_j, min(h_j, cap)) elsewhere; and where the set is empty.
    """
    least, most, z_t, low_t, high_t, low_top, low_sum = _brackets(rows, t, epsilon, CHUNKS)
    # A guess of τ: near 0 if z is near the simplex, else near its top.
    far = tl.abs(most) > NEAR
    base = tl.where(far, most - 1, 0.0)
    tau, cap, u = -far.to(tl.float64), base * 0 + float("inf"), base * 0
    empty, bound = todo & False, todo & False
    lo, hi, closing = base * 0, base * 0, todo & False
    turn = 0
    while any_of(todo) & (turn < MOST_TURNS):
        # 1. The box's τ, with q_t = u where the label binds.
        a, b, done, inner = least - base, most - base, ~todo, 0
        tau = tl.where(todo, begin(tau, a, b), tau)
        target = tl.where(bound, 1 - u, 1.0)
        free = base * 0
        while any_of(~done) & (inner < MOST_TURNS):
            total, between = _fill(rows, t, bound, cap, base, tau, epsilon, CHUNKS)
            free = tl.where(done, free, between)
            base, tau, a, b, done = step_level(
                base, tau, a, b, done, total - target, -between, least, most, inner
            )
            inner += 1
        todo = todo & ~closing
        # 2. Done where the label holds without its constraint; else the bracket of the cap.
        fresh = todo & ~bound
        if any_of(fresh):
            leads, q_t = _leads(rows, t, m, base, tau, epsilon, CHUNKS)
            todo = todo & ~(fresh & leads)
            fresh = fresh & ~leads
            first = tl.maximum(low_t, low_top + m)
            last = tl.minimum(high_t, 1 - low_sum)
            first, missing = _smallest(
                rows, t, m, first, last, epsilon, fresh & (first < last + SLACK), CHUNKS
            )
            none = fresh & ((first > last + SLACK) | (missing > SLACK))
            empty, todo, fresh = empty | none, todo & ~none, fresh & ~none
            lo, hi = tl.where(fresh, first - m, lo), tl.where(fresh, last - m, hi)
            point = fresh & ~(first < last)
            cap = tl.where(fresh, tl.where(point, lo, begin(q_t - m, lo, hi)), cap)
            closing = closing | point
        # 3. One step toward the root of φ in the cap.
        searched = todo & bound
        if any_of(searched):
            value, slope = _pull(rows, t, m, u, cap, z_t, base, tau, free, epsilon, CHUNKS)
            lo, hi = shrink(cap, lo, hi, ~searched, value)
            point, refused, arrived = newton(cap, lo, hi, value, slope, turn)
            divided = midpoint(lo, hi)
            if any_of(refused & searched):
                divided = _nearest_jump(rows, t, lo, hi, epsilon, CHUNKS)
            moved, found = advance(cap, lo, hi, ~searched, value, point, refused, arrived, divided)
            # After a last Newton step τ is computed once more.
            todo = todo & ~(searched & found & (moved == cap))
            closing = closing | (searched & found)
            cap = tl.where(searched, moved, cap)
        bound = bound | fresh
        u = tl.where(bound & todo, cap + m, u)
        turn += 1
    return base, tau, cap, u, empty
