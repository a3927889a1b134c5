"""The common case in float32 registers: no ball, rows of at most 32 bits, entries of moderate size.

It may decline a row; `project_float64` then solves that row from the start. So invalid rows are never handled here.
"""

from __future__ import annotations

import triton
import triton.language as tl
from mipoison.kernels.roots import any_of
from mipoison.kernels.rounding import leading_entry, rounded
from mipoison.kernels.rows import given_label

# The bits of 2.0: larger entries lose more than 1e-7 in float32.
MODERATE: tl.constexpr = tl.constexpr(0x40000000)


@triton.jit
def _split(x):
    """A float64 level as two float32, so that (z − high) − low keeps its digits."""
    high = x.to(tl.float32)
    return high[:, None], (x - high.to(tl.float64)).to(tl.float32)[:, None]


@triton.jit
def _wide_sum(x):
    return tl.sum(x.to(tl.float64), 1)


@triton.jit
def _count(mask):
    return tl.sum(mask.to(tl.int32), 1)


@triton.jit
def _moderate(x):
    """Whether no entry is large, infinite or NaN: in the order of their bits, NaN comes last."""
    return tl.max(x.to(tl.int32, bitcast=True) & 0x7FFFFFFF, 1) <= MODERATE


@triton.jit
def _shrunk(m, p_t, rival, total):
    """m, or the lead of p's label where that is smaller."""
    return tl.minimum(m, tl.maximum(p_t.to(tl.float64) / total - rival.to(tl.float64) / total, 0.0))


@triton.jit
def _first_of(x, cols, k):
    """Lowest index of the largest entry."""
    return tl.min(tl.where(x == tl.max(x, 1)[:, None], cols, k), 1)


@triton.jit
def _pool(rest, z_t, m, todo):
    """1. w = z_t + Σ_{j≠t} (z_j + m − w)_+, differences in float32, sums in float64."""
    w, turn = z_t, 0
    while any_of(todo) & (turn < 64):
        high, low = _split(w - m)
        over = tl.maximum((rest - high) - low, 0.0)
        step = (_wide_sum(over) + z_t - w) / (1 + _count(over > 0))
        # Smaller steps are below the resolution of the differences.
        todo = todo & (step > 1e-9)
        w = tl.where(todo, w + step, w)
        turn += 1
    return w


@triton.jit
def _threshold(rest, w, cap, todo):
    """2. τ with (w − τ) + Σ_{j≠t} (min(z_j, cap) − τ)_+ = 1.

    First Newton in float32 until the support repeats, then once or twice with sums in float64.
    """
    wanted = todo
    # τ is near 0 for a z near the simplex; from the right of the root one step lands on its left.
    tau = tl.maximum(w - 1, 0.0)
    before, turn = _count(rest > rest) - 1, 0
    while any_of(todo) & (turn < 64):
        level = tau.to(tl.float32)
        wide = level.to(tl.float64)
        # (Subtracting the level from the cap too saves the registers of a capped copy of the row.)
        caps = (cap - wide).to(tl.float32)[:, None]
        over = tl.maximum(tl.minimum(rest - level[:, None], caps), 0.0)
        count = _count(over > 0)
        point = wide + (tl.sum(over, 1).to(tl.float64) + (w - wide) - 1) / (1 + count)
        still = todo & (count != before) & ((turn == 0) | (point > tau))
        tau = tl.where(todo, point, tau)
        before = tl.where(todo, count, before)
        todo = still
        turn += 1
    todo, turn = wanted, 0
    while any_of(todo) & (turn < 8):
        high, low = _split(tau)
        caps = (cap - tau).to(tl.float32)[:, None]
        over = tl.maximum(tl.minimum((rest - high) - low, caps), 0.0)
        missing = _wide_sum(over) + (w - tau) - 1
        tau = tl.where(todo, tau + missing / (1 + _count(over > 0)), tau)
        todo = todo & (tl.abs(missing) > 1e-7)
        turn += 1
    return tau


@triton.jit
def project_float32(
    q_at,
    g_at,
    p_at,
    t_at,
    out_at,
    cols,
    k,
    ok,
    alpha,
    margin,
    TOLERANCE: tl.constexpr,
    SHRINK: tl.constexpr,
    SAME: tl.constexpr,
):
    """Projects the rows that float32 can solve and writes them; returns which these are, [R].

    Args:
        q_at: pointers [R, 1] to z, or to q.
        g_at: pointers to the directions, or None: z is given.
        p_at: pointers to the centers, or None.
        t_at: pointers [R] to the labels, or None.
        out_at: pointers to the results.
        cols: columns, [1, B], B ≥ k.
        k: classes.
        ok: rows that exist, [R].
        alpha: step length.
        margin: m.
        TOLERANCE: of the sum of p.
        SHRINK: whether m shrinks to what p leaves to its label.
        SAME: whether p is q.
    """
    inside = ok[:, None] & (cols < k)
    T: tl.constexpr = q_at.dtype.element_ty
    served = ok & (margin <= 1.0)
    # First p, then q: only one of them takes registers at a time.
    total = margin * 0 + 1
    if p_at is None or SAME:
        p = tl.load(q_at + cols, mask=inside, other=0.0).to(tl.float32)
    else:
        p = tl.load(p_at + cols, mask=inside, other=0.0).to(tl.float32)
    source = p
    if p_at is None:
        source = tl.where(inside, p, float("-inf"))
        served = served & _moderate(p)
    else:
        # The sum detects NaN and entries that are too large.
        total = _wide_sum(p)
        served = served & (tl.min(p, 1) >= 0) & (tl.abs(total - 1) <= TOLERANCE)
    if t_at is None:
        t = _first_of(source, cols, k)
    else:
        t, served = given_label(t_at, served, k)
    m = total * 0 + margin
    z = p
    if p_at is not None and not SAME:
        if SHRINK:
            mine = cols == t[:, None]
            p_t = tl.sum(tl.where(mine, p, 0.0), 1)
            m = _shrunk(m, p_t, tl.max(tl.where(mine, 0.0, p), 1), total)
        z = tl.load(q_at + cols, mask=inside, other=0.0).to(tl.float32)
        served = served & _moderate(z)
    # Entry t and the padding are −inf from here on; keeping the columns would take registers.
    mine = cols == t[:, None]
    z_t = tl.sum(tl.where(mine, z, 0.0), 1)
    rest = tl.where(inside & ~mine, z, float("-inf"))
    if SHRINK and p_at is None:
        m = m * 0
    elif SHRINK and SAME:
        m = _shrunk(m, z_t, tl.max(rest, 1), total)
    if g_at is not None:
        g_t = tl.load(g_at + t[:, None], mask=served[:, None], other=0.0).to(tl.float32)
        g = tl.load(g_at + cols, mask=inside, other=0.0).to(tl.float32)
        squares = tl.sum(g * g, 1)
        served = served & (squares > 1e-24) & (squares < 1e24) & (alpha <= 1.0)
        scale = (alpha / tl.sqrt(squares.to(tl.float64))).to(tl.float32)
        rest += scale[:, None] * g
        z_t += scale * tl.sum(g_t, 1)
    z_t = z_t.to(tl.float64)
    w = _pool(rest, z_t, m, served & (tl.max(rest, 1) + m > z_t))
    cap = w - m
    tau = _threshold(rest, w, cap, served)
    # 3. q_t = w − τ, q_j = (min(z_j, w − m) − τ)_+.
    high, low = _split(tau)
    caps = (cap - tau).to(tl.float32)[:, None]
    answer = rounded(tl.maximum(tl.minimum((rest - high) - low, caps), 0.0), T)
    rival = tl.max(answer.to(tl.float32), 1)
    top = leading_entry(w - tau, rounded(rival, T), m, T)
    answer = tl.where(rest > float("-inf"), answer, top[:, None])
    tl.store(out_at + cols, answer, mask=inside & served[:, None])
    return served
