"""The l1 ball: raises and lowers sum to ε/2 each, which gives two roots (step 2 of the reference's projection).

Where the label binds, an outer root in the cap is searched around them (step 4).
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
def _brackets(rows, t, CHUNKS: tl.constexpr):
    """A bracket of every level; then z_t and p_t; [R] each."""
    s = tl.sum(rows.total, 1) * 0
    least, most, z_t, p_t = s + float("inf"), s + float("-inf"), s, s
    for i in range(CHUNKS):
        z, p, cols = part(rows, i, s, CHUNKS, False)
        mine = cols == t[:, None]
        z_t += tl.sum(tl.where(mine, z, 0.0), 1)
        p_t += tl.sum(tl.where(mine, p, 0.0), 1)
        least = tl.minimum(least, tl.min(tl.where(cols < rows.k, z, float("inf")), 1))
        most = tl.maximum(most, tl.max(z, 1))
    least -= 2 + 4 * ROUNDOFF * tl.abs(least)
    most += 1 + 4 * ROUNDOFF * tl.abs(most)
    return least, most, z_t, p_t


@triton.jit
def _most(rows, t, bound, cap, CHUNKS: tl.constexpr):
    """The most that can be raised under the cap, and the most that can be lowered."""
    # The cap may be infinite.
    gain = tl.zeros_like(cap)
    loss = gain
    for i in range(CHUNKS):
        _, p, cols = part(rows, i, gain, CHUNKS, False)
        member = (cols < rows.k) & ~((cols == t[:, None]) & bound[:, None])
        gain += tl.sum(tl.where(member, tl.maximum(cap[:, None] - p, 0.0), 0.0), 1)
        loss += tl.sum(tl.where(member, p, 0.0), 1)
    return gain, loss


@triton.jit
def _exchange(rows, t, bound, cap, up, plus, down, minus, CHUNKS: tl.constexpr):
    """What is raised above τ₊ and lowered below τ₋, each with how many entries move with their level."""
    gain, rising, loss, falling = plus * 0, plus * 0, plus * 0, plus * 0
    caps = cap[:, None]
    for i in range(CHUNKS):
        z, p, cols = part(rows, i, plus, CHUNKS, False)
        member = ~((cols == t[:, None]) & bound[:, None])
        y = z - up[:, None] - plus[:, None]
        gain += tl.sum(tl.where(member, tl.maximum(tl.minimum(y, caps) - p, 0.0), 0.0), 1)
        rising += tl.sum(((y > p) & (caps > y) & member).to(tl.float64), 1)
        y = z - down[:, None] - minus[:, None]
        x = p - tl.minimum(tl.maximum(y, 0.0), caps)
        loss += tl.sum(tl.where(member, tl.maximum(x, 0.0), 0.0), 1)
        falling += tl.sum(((p > y) & (caps > y) & (y > 0) & member).to(tl.float64), 1)
    return gain, rising, loss, falling


@triton.jit
def _fill(rows, t, bound, cap, base, tau, CHUNKS: tl.constexpr):
    """Σ clip(z_j − τ, 0, cap) and how many lie between."""
    total, free = tau * 0, tau * 0
    for i in range(CHUNKS):
        z, _, cols = part(rows, i, tau, CHUNKS, False)
        y = z - base[:, None] - tau[:, None]
        member = ~((cols == t[:, None]) & bound[:, None])
        x = tl.minimum(tl.maximum(y, 0.0), cap[:, None])
        total += tl.sum(tl.where(member, x, 0.0), 1)
        free += tl.sum(((cap[:, None] > y) & (y > 0) & member).to(tl.float64), 1)
    return total, free


@triton.jit
def exchanged(z, p, up, plus, down, minus, cap):
    """An entry is raised to min(z − τ₊, c), lowered to clip(z − τ₋, 0, c), or stays at p."""
    high = tl.minimum(z - up - plus, cap)
    low = tl.minimum(p, tl.minimum(tl.maximum(z - down - minus, 0.0), cap))
    return tl.where(high > p, tl.maximum(high, low), low)


@triton.jit
def _leads(rows, t, m, up, plus, down, minus, CHUNKS: tl.constexpr):
    """Whether the solution without the label constraint keeps the label."""
    q_t, rival = plus * 0, plus * 0
    for i in range(CHUNKS):
        z, p, cols = part(rows, i, plus, CHUNKS, False)
        q = exchanged(z, p, up[:, None], plus[:, None], down[:, None], minus[:, None], float("inf"))
        mine = cols == t[:, None]
        q_t += tl.sum(tl.where(mine, q, 0.0), 1)
        rival = tl.maximum(rival, tl.max(tl.where(mine, 0.0, q), 1))
    return q_t >= rival + m


@triton.jit
def _smallest(rows, t, m, p_t, half, start, todo, CHUNKS: tl.constexpr):
    """The least u ≥ start whose cap forces no more than ε/2 down; Newton from the left."""
    u, turn = start, 0
    while any_of(todo) & (turn < MOST_TURNS):
        lowered, count = tl.maximum(p_t - u, 0.0), (p_t > u).to(tl.float64)
        for i in range(CHUNKS):
            _, p, cols = part(rows, i, u, CHUNKS, False)
            over = tl.where(cols == t[:, None], 0.0, tl.maximum(p - (u - m)[:, None], 0.0))
            lowered += tl.sum(over, 1)
            count += tl.sum((over > 0).to(tl.float64), 1)
        point = u + (lowered - half) / tl.maximum(count, 1.0)
        todo = todo & (lowered > half) & (point > u)
        u = tl.where(todo, point, u)
        turn += 1
    return u


@triton.jit
def _pull(rows, t, m, u, cap, z_t, p_t, ball, up, plus, down, minus, CHUNKS: tl.constexpr):
    """−φ(u), φ the derivative of the smallest squared distance once q_t = u, and its slope; with the ball or without.

    φ jumps where the cap passes a p_j and where u passes p_t. If it jumps from one sign to the other there, the root is
    at the jump, and 0 is returned. Without the ball τ₊ = τ₋, and every capped entry counts.
    """
    risen, raised, tied_up = u * 0, u * 0, u * 0
    fallen, lowered, tied_down = u * 0, u * 0, u * 0
    rising, falling, free = u * 0, u * 0, u * 0
    caps = cap[:, None]
    for i in range(CHUNKS):
        z, p, cols = part(rows, i, u, CHUNKS, False)
        rest = cols != t[:, None]
        y = z - up[:, None] - plus[:, None]
        over = rest & (y > caps)
        risen += tl.sum(tl.where(over & (caps > p), y - caps, 0.0), 1)
        raised += tl.sum((over & (caps > p)).to(tl.float64), 1)
        tied_up += tl.sum(tl.where(over & (caps == p), y - caps, 0.0), 1)
        rising += tl.sum((rest & (y > p) & (caps > y)).to(tl.float64), 1)
        free += tl.sum((rest & (y > 0) & (caps > y)).to(tl.float64), 1)
        y = z - down[:, None] - minus[:, None]
        over = rest & (y > caps)
        fallen += tl.sum(tl.where(over & (p > caps), y - caps, 0.0), 1)
        lowered += tl.sum((over & (p > caps)).to(tl.float64), 1)
        tied_down += tl.sum(tl.where(over & (caps == p), y - caps, 0.0), 1)
        falling += tl.sum((rest & (p > y) & (caps > y) & (y > 0)).to(tl.float64), 1)
    held = raised + lowered
    fixed = u - risen - fallen
    by_plus, by_minus = fixed + (up - z_t + plus), fixed + (down - z_t + minus)
    left = tl.where(u > p_t, by_plus, by_minus) - tied_down
    right = tl.where(u < p_t, by_minus, by_plus) - tied_up
    pushed_up = raised + (u > p_t).to(tl.float64)
    pushed_down = lowered + (u < p_t).to(tl.float64)
    smooth = ((rising > 0) | (pushed_up == 0)) & ((falling > 0) | (pushed_down == 0))
    slope = 1 + held + pushed_up * pushed_up / tl.maximum(rising, 1.0)
    slope += pushed_down * pushed_down / tl.maximum(falling, 1.0)
    slope = tl.where(smooth, slope, 0.0)
    no_ball = by_plus - tied_up
    left, right = tl.where(ball, left, no_ball), tl.where(ball, right, no_ball)
    pushed = (1 + held) * (1 + (1 + held) / tl.maximum(free, 1.0))
    slope = tl.where(ball, slope, tl.where(free > 0, pushed, 0.0))
    value = tl.where(left > 0, -left, -right)
    value = tl.where((left <= 0) & (right >= 0), 0.0, value)
    return value, tl.where(left == right, -slope, 0.0)


@triton.jit
def _nearest_jump(rows, t, lo, hi, CHUNKS: tl.constexpr):
    """The entry p_j in the bracket that is nearest to its middle; the middle where there is none."""
    middle = midpoint(lo, hi)
    gap, jump = hi - lo, middle
    for i in range(CHUNKS):
        _, p, cols = part(rows, i, lo, CHUNKS, False)
        fits = (p > lo[:, None]) & (p < hi[:, None]) & (cols < rows.k)
        far = tl.where(fits, tl.abs(p - middle[:, None]), float("inf"))
        best = tl.min(far, 1)
        here = tl.min(tl.where(far == best[:, None], p, float("inf")), 1)
        jump = tl.where(best < gap, here, jump)
        gap = tl.minimum(gap, best)
    return jump


@triton.jit
def l1_levels(rows, t, m, epsilon, todo, CHUNKS: tl.constexpr):
    """Levels of the projection onto C with the l1 ball, on the rows todo, whose ball is active.

    Returns:
        up, plus, down, minus, cap, u: q_t = u where the cap is finite, and `exchanged` elsewhere;
        and where the set is empty.
    """
    least, most, z_t, p_t = _brackets(rows, t, CHUNKS)
    half = epsilon / 2
    far = tl.abs(most - 1) > NEAR
    base = tl.where(far, most - 1, 0.0)
    tau = -far.to(tl.float64)
    up, plus, down, minus = base, tau, base, tau
    above, more, below, less = base, tau, base, tau
    cap, u = base * 0 + float("inf"), base * 0
    empty, bound = todo & False, todo & False
    lo, hi, closing = base * 0, base * 0, todo & False
    turn = 0
    while any_of(todo) & (turn < MOST_TURNS):
        # 1. τ₊ and τ₋; where the ball does not bind at this u, one τ for both sides.
        gain = tl.where(bound, tl.maximum(half - tl.maximum(u - p_t, 0.0), 0.0), half)
        loss = tl.where(bound, tl.maximum(half - tl.maximum(p_t - u, 0.0), 0.0), half)
        most_gain, most_loss = _most(rows, t, bound, cap, CHUNKS)
        ball = todo & (gain < most_gain) & (loss < most_loss)
        up_lo, up_hi, down_lo, down_hi = least - up, most - up, least - down, most - down
        plus = tl.where(ball, begin(plus, up_lo, up_hi), plus)
        minus = tl.where(ball, begin(minus, down_lo, down_hi), minus)
        set_up, set_down, inner = ~ball, ~ball, 0
        while any_of(~(set_up & set_down)) & (inner < MOST_TURNS):
            gained, rising, lost, falling = _exchange(
                rows, t, bound, cap, up, plus, down, minus, CHUNKS
            )
            up, plus, up_lo, up_hi, set_up = step_level(
                up, plus, up_lo, up_hi, set_up, gained - gain, -rising, least, most, inner
            )
            down, minus, down_lo, down_hi, set_down = step_level(
                down, minus, down_lo, down_hi, set_down, loss - lost, -falling, least, most, inner
            )
            inner += 1
        ball = ball & ((up - down) + (plus - minus) > 0)
        a, b, done, inner = least - base, most - base, ~(todo & ~ball), 0
        tau = tl.where(done, tau, begin(tau, a, b))
        target = tl.where(bound, 1 - u, 1.0)
        while any_of(~done) & (inner < MOST_TURNS):
            total, free = _fill(rows, t, bound, cap, base, tau, CHUNKS)
            base, tau, a, b, done = step_level(
                base, tau, a, b, done, total - target, -free, least, most, inner
            )
            inner += 1
        above, more = (
            tl.where(todo, tl.where(ball, up, base), above),
            tl.where(todo, tl.where(ball, plus, tau), more),
        )
        below, less = (
            tl.where(todo, tl.where(ball, down, base), below),
            tl.where(todo, tl.where(ball, minus, tau), less),
        )
        todo = todo & ~closing
        # 2. Done where the label holds without its constraint; else the bracket of the cap.
        fresh = todo & ~bound
        if any_of(fresh):
            leads = _leads(rows, t, m, above, more, below, less, CHUNKS)
            todo = todo & ~(fresh & leads)
            fresh = fresh & ~leads
            last = tl.minimum(p_t + half, 1.0)
            first = tl.maximum(m, (1 + (rows.k - 1) * m) / rows.k)
            first = _smallest(rows, t, m, p_t, half, first, fresh, CHUNKS)
            none = fresh & (first > last + SLACK)
            empty, todo, fresh = empty | none, todo & ~none, fresh & ~none
            first = tl.minimum(first, last)
            lo, hi = tl.where(fresh, first - m, lo), tl.where(fresh, last - m, hi)
            point = fresh & ~(first < last)
            cap = tl.where(fresh, tl.where(point, lo, begin(p_t - m, lo, hi)), cap)
            closing = closing | point
        # 3. One step toward the root of φ in the cap.
        searched = todo & bound
        if any_of(searched):
            value, slope = _pull(
                rows, t, m, u, cap, z_t, p_t, ball, above, more, below, less, CHUNKS
            )
            lo, hi = shrink(cap, lo, hi, ~searched, value)
            point, refused, arrived = newton(cap, lo, hi, value, slope, turn)
            divided = midpoint(lo, hi)
            if any_of(refused & searched):
                divided = _nearest_jump(rows, t, lo, hi, CHUNKS)
            moved, found = advance(cap, lo, hi, ~searched, value, point, refused, arrived, divided)
            # After a last Newton step the levels are computed once more.
            todo = todo & ~(searched & found & (moved == cap))
            closing = closing | (searched & found)
            cap = tl.where(searched, moved, cap)
        bound = bound | fresh
        # Without rounding, so that the jump at u = p_t is hit.
        u = tl.where(bound & todo, tl.where(cap == p_t - m, p_t, cap + m), u)
        turn += 1
    return above, more, below, less, cap, u, empty
