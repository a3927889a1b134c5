"""The projection of a program's rows in float64: every norm, and the safe answer for invalid rows."""

from __future__ import annotations

import triton
import triton.language as tl
from mipoison.kernels.l1 import exchanged, l1_levels
from mipoison.kernels.l2 import l2_levels
from mipoison.kernels.linf import linf_levels
from mipoison.kernels.roots import any_of
from mipoison.kernels.rounding import leading_entry, rounded
from mipoison.kernels.rows import (
    FARTHEST,
    LARGEST,
    Rows,
    form,
    given_label,
    is_probability,
    lead,
    length,
    part,
    survey,
    write_safe_answer,
)
from mipoison.kernels.simplex import simplex_levels


@triton.jit
def _distance(rows, t, base, tau, m, NORM: tl.constexpr, CHUNKS: tl.constexpr):
    """‖q − p‖ of the projection without ball; [R]."""
    s = tau * 0 + 1
    total = tau * 0
    cap = -tau - m
    for i in range(CHUNKS):
        z, p, cols = part(rows, i, s, CHUNKS, False)
        q = tl.minimum(tl.maximum(z - base[:, None] - tau[:, None], 0.0), cap[:, None])
        d = tl.abs(tl.where(cols == t[:, None], -tau[:, None], q) - p)
        if NORM == "linf":
            total = tl.maximum(total, tl.max(d, 1))
        elif NORM == "l2":
            total += tl.sum(d * d, 1)
        else:
            total += tl.sum(d, 1)
    if NORM == "l2":
        total = tl.sqrt(total)
    return total


@triton.jit
def _entries(
    rows,
    i,
    t,
    s,
    up,
    plus,
    down,
    minus,
    cap,
    q_t,
    epsilon,
    NORM: tl.constexpr,
    CHUNKS: tl.constexpr,
):
    """The i-th chunk of q before rounding; then p and the columns."""
    z, p, cols = part(rows, i, s, CHUNKS, NORM == "l2")
    base, tau, caps = up[:, None], plus[:, None], cap[:, None]
    if NORM == "l1":
        q = exchanged(z, p, base, tau, down[:, None], minus[:, None], caps)
    elif NORM == "linf":
        y = tl.minimum(z - base - tau, tl.minimum(tl.minimum(p + epsilon[:, None], 1.0), caps))
        q = tl.maximum(y, tl.maximum(p - epsilon[:, None], 0.0))
    else:
        q = tl.maximum(tl.minimum(z - base - tau, caps), 0.0)
    mine = (cols == t[:, None]) & (q_t == q_t)[:, None]
    return tl.where(cols < rows.k, tl.where(mine, q_t[:, None], q), 0.0), p, cols


@triton.jit
def _farthest(rows, CHUNKS: tl.constexpr):
    """The largest |z|; [R]."""
    s = tl.sum(rows.total, 1) * 0
    extent = s
    for i in range(CHUNKS):
        z, _, cols = part(rows, i, s, CHUNKS, False)
        extent = tl.maximum(extent, tl.max(tl.where(cols < rows.k, tl.abs(z), 0.0), 1))
    return extent


@triton.jit
def project_float64(
    q_at,
    g_at,
    p_at,
    t_at,
    out_at,
    cols,
    k,
    ok,
    alpha,
    epsilon,
    margin,
    TOLERANCE: tl.constexpr,
    NORM: tl.constexpr,
    SHRINK: tl.constexpr,
    CHUNKS: tl.constexpr,
):
    """Projects the rows of a program and writes them; returns which of them are invalid, [R].

    Arguments as in `project_float32`; NORM is "none" for no ball, CHUNKS how many tiles make up a row.
    """
    T: tl.constexpr = q_at.dtype.element_ty
    # Validity and the label.
    extent, total, low, label = survey(q_at, cols, k, ok, CHUNKS)
    valid = ok & (extent <= LARGEST)
    known = valid
    if p_at is not None:
        extent, total, low, label = survey(p_at, cols, k, ok, CHUNKS)
        known = ok & (extent <= LARGEST)
        valid = valid & is_probability(extent, total, low, TOLERANCE)
        center = p_at
    else:
        center = q_at
        total = total * 0 + 1
    if t_at is not None:
        label, known = given_label(t_at, known, k)
    valid = valid & known & (margin <= 1.0)
    t = tl.where(known, label, 0)
    along, lift, scale = q_at, total * 0 + 1, total * 0
    if g_at is not None:
        along = g_at
        extent, _, _, _ = survey(g_at, cols, k, ok, CHUNKS)
        valid = valid & (extent <= LARGEST)
        lift, scale = length(g_at, tl.where(valid, extent, 0.0), cols, k, valid, CHUNKS)
        scale = alpha * scale
    total = tl.where(valid, total, 1.0)
    m = total * 0 + margin
    if SHRINK:
        gap = m * 0
        if p_at is not None:
            gap = lead(p_at, total, cols, k, valid, t, CHUNKS)
        m = tl.minimum(m, gap)
    wide = lift[:, None], scale[:, None], total[:, None], valid[:, None]
    z, p = form(q_at, along, center, wide[0], wide[1], wide[2], wide[3], k, cols)
    rows = Rows(z, p, cols, q_at, along, center, wide[0], wide[1], wide[2], wide[3], k)
    valid = valid & (_farthest(rows, CHUNKS) <= FARTHEST)

    # 1. Without the ball.
    s = total * 0 + 1
    base, tau = simplex_levels(rows, t, m, s, valid, CHUNKS, False)
    up, plus, down, minus = base, tau, base, tau
    cap, q_t = -tau - m, -tau
    # 2.–5. With the ball, where that answer is outside.
    if NORM != "none":
        outside = valid & ~(_distance(rows, t, base, tau, m, NORM, CHUNKS) <= epsilon)
        if any_of(outside):
            if NORM == "l1":
                a, b, c, d, caps, u, empty = l1_levels(rows, t, m, epsilon, outside, CHUNKS)
            elif NORM == "linf":
                a, b, caps, u, empty = linf_levels(rows, t, m, epsilon, outside, CHUNKS)
                c, d = a, b
            else:
                s, a, b, empty = l2_levels(rows, t, m, epsilon, outside, CHUNKS)
                s = tl.where(outside, s, 1.0)
                c, d, caps, u = a, b, -b - m, -b
            up, plus = tl.where(outside, a, up), tl.where(outside, b, plus)
            down, minus = tl.where(outside, c, down), tl.where(outside, d, minus)
            cap = tl.where(outside, caps, cap)
            # Where the label does not bind, q_t is computed like the other entries.
            u = tl.where(caps < float("inf"), u, float("nan"))
            q_t = tl.where(outside, u, q_t)
            valid = valid & ~(outside & empty)

    # Final check of sum and ball; rows that fail get the safe answer.
    mass, moved, rival, top = s * 0, s * 0, s * 0, s * 0
    for i in range(CHUNKS):
        q, p, here = _entries(rows, i, t, s, up, plus, down, minus, cap, q_t, epsilon, NORM, CHUNKS)
        mine = here == t[:, None]
        mass += tl.sum(q, 1)
        top += tl.sum(tl.where(mine, q, 0.0), 1)
        rival = tl.maximum(rival, tl.max(tl.where(mine, 0.0, rounded(q, T).to(tl.float64)), 1))
        d = tl.where(here < k, tl.abs(q - p), 0.0)
        if NORM == "l1":
            moved += tl.sum(d, 1)
        elif NORM == "l2":
            moved += tl.sum(d * d, 1)
        elif NORM == "linf":
            moved = tl.maximum(moved, tl.max(d, 1))
    if NORM == "l2":
        moved = tl.sqrt(moved)
    valid = valid & (tl.abs(mass - 1.0) <= 1e-6)
    if NORM != "none":
        valid = valid & (moved <= epsilon + 1e-7)
    entry = leading_entry(top, rounded(rival, T), m, T)
    for i in range(CHUNKS):
        q, p, here = _entries(rows, i, t, s, up, plus, down, minus, cap, q_t, epsilon, NORM, CHUNKS)
        answer = tl.where(here == t[:, None], entry[:, None], rounded(q, T))
        tl.store(out_at + here, answer, mask=valid[:, None] & (here < k))
    refused = ok & ~valid
    if any_of(refused):
        write_safe_answer(out_at, cols, k, t, known, refused, T, CHUNKS)
    return refused
