"""7. The bounded move toward a vector of the same label: along the segment, by water-filling, or sparse."""

from __future__ import annotations

import triton
import triton.language as tl
from mipoison.kernels.launch import float64_shape, in_columns, outputs
from mipoison.kernels.roots import MOST_TURNS, any_of
from mipoison.kernels.rounding import leading_entry, rounded
from mipoison.kernels.rows import (
    LARGEST,
    begin_count,
    count_refused,
    is_probability,
    pair,
    rows_of_program,
    survey,
    write_safe_answer,
)
from mipoison.kernels.sparse import NEAR_TIE, sparse_side, sparsely_moved
from torch import Tensor

from mipoison.reference.project import radius
from mipoison.reference.rounding import SUM_TOLERANCE


@triton.jit
def _share(
    p_at,
    v_at,
    from_total,
    to_total,
    cols,
    k,
    ok,
    epsilon,
    NORM: tl.constexpr,
    CHUNKS: tl.constexpr,
):
    """min(1, ε/‖v − p‖)."""
    size = from_total * 0
    for i in range(CHUNKS):
        here = cols + i * cols.shape[1]
        p, v = pair(p_at, v_at, from_total, to_total, here, ok[:, None] & (here < k))
        d = tl.abs(v - p)
        if NORM == "linf":
            size = tl.maximum(size, tl.max(d, 1))
        elif NORM == "l2":
            size += tl.sum(d * d, 1)
        else:
            size += tl.sum(d, 1)
    if NORM == "l2":
        size = tl.sqrt(size)
    far = size > epsilon
    return tl.where(far, epsilon / tl.where(far, size, 1.0), 1.0)


@triton.jit
def _water_line(p_at, v_at, from_total, to_total, cols, k, ok, budget, sign, CHUNKS: tl.constexpr):
    """The level θ of one side's changes d with Σ min(d, θ) = budget; infinite where Σd is less.

    θ solves Σ (d − θ)_+ = Σd − budget; Newton from the left.
    """
    total, most = tl.zeros_like(from_total), tl.zeros_like(from_total)
    for i in range(CHUNKS):
        here = cols + i * cols.shape[1]
        p, v = pair(p_at, v_at, from_total, to_total, here, ok[:, None] & (here < k))
        d = tl.maximum(sign * (v - p), 0.0)
        total += tl.sum(d, 1)
        most = tl.maximum(most, tl.max(d, 1))
    overflow = total - budget
    todo = overflow > 0
    theta = most - tl.where(todo, overflow, 1.0)
    turn = 0
    while any_of(todo) & (turn < MOST_TURNS):
        over, count = theta * 0, theta * 0
        for i in range(CHUNKS):
            here = cols + i * cols.shape[1]
            inside = ok[:, None] & (here < k)
            p, v = pair(p_at, v_at, from_total, to_total, here, inside)
            d = tl.maximum(sign * (v - p), 0.0) - theta[:, None]
            d = tl.where(inside, tl.maximum(d, 0.0), 0.0)
            over += tl.sum(d, 1)
            count += tl.sum((d > 0).to(tl.float64), 1)
        step = (over - overflow) / tl.maximum(count, 1.0)
        todo = todo & (theta + step > theta)
        theta = tl.where(todo, theta + step, theta)
        turn += 1
    return tl.where(overflow > 0, tl.maximum(theta, 0.0), float("inf"))


@triton.jit
def _water_lines(p_at, v_at, from_total, to_total, cols, k, ok, budget, CHUNKS: tl.constexpr):
    """The levels of both sides, of the rows where ok."""
    up, down = from_total, from_total
    if any_of(ok):
        up = _water_line(p_at, v_at, from_total, to_total, cols, k, ok, budget, 1.0, CHUNKS)
        down = _water_line(p_at, v_at, from_total, to_total, cols, k, ok, budget, -1.0, CHUNKS)
    return up, down


# One kernel serves every batch.
@triton.jit(do_not_specialize=["n"])
def move_kernel(
    p,
    v,
    out,
    status,
    n,
    k,
    p_stride,
    v_stride,
    epsilon: tl.float64,
    TOLERANCE: tl.constexpr,
    NORM: tl.constexpr,
    STYLE: tl.constexpr,
    R: tl.constexpr,
    B: tl.constexpr,
    CHUNKS: tl.constexpr,
):
    """R rows a program."""
    T: tl.constexpr = p.dtype.element_ty
    begin_count(status)
    row, ok = rows_of_program(n, R)
    cols = tl.arange(0, B)[None, :]
    p_at, v_at = p + (row * p_stride)[:, None], v + (row * v_stride)[:, None]
    out_at = out + (row * k)[:, None]
    epsilon = tl.full([R], epsilon, tl.float64)

    extent, from_total, low, t = survey(p_at, cols, k, ok, CHUNKS)
    known = extent <= LARGEST
    valid = ok & is_probability(extent, from_total, low, TOLERANCE)
    extent, to_total, low, label = survey(v_at, cols, k, ok, CHUNKS)
    valid = valid & is_probability(extent, to_total, low, TOLERANCE) & (label == t)
    from_total, to_total = tl.where(valid, from_total, 1.0), tl.where(valid, to_total, 1.0)

    share, up, down = from_total, from_total, from_total
    up_last, up_share, down_last, down_share = share, share, share, share
    rises, falls = share, share
    fills = valid
    if STYLE == "straight":
        share = _share(p_at, v_at, from_total, to_total, cols, k, valid, epsilon, NORM, CHUNKS)
    half = epsilon / 2
    if STYLE == "sparse":
        rises, up_last, up_share = sparse_side(
            p_at, v_at, from_total, to_total, cols, k, valid, half, 1.0, CHUNKS
        )
        falls, down_last, down_share = sparse_side(
            p_at, v_at, from_total, to_total, cols, k, valid, half, -1.0, CHUNKS
        )
        rival, top = share * 0, share * 0
        for i in range(CHUNKS):
            here = cols + i * cols.shape[1]
            x, y = pair(p_at, v_at, from_total, to_total, here, valid[:, None] & (here < k))
            q = sparsely_moved(x, y, rises, up_last, up_share, falls, down_last, down_share)
            mine = here == t[:, None]
            top += tl.sum(tl.where(mine, q, 0.0), 1)
            rival = tl.maximum(rival, tl.max(tl.where(mine, 0.0, q), 1))
        fills = valid & (rival - top > NEAR_TIE)
    if STYLE != "straight":
        up, down = _water_lines(p_at, v_at, from_total, to_total, cols, k, fills, half, CHUNKS)
    rival, top = share * 0, share * 0
    for i in range(CHUNKS):
        here = cols + i * cols.shape[1]
        x, y = pair(p_at, v_at, from_total, to_total, here, valid[:, None] & (here < k))
        q = _moved(x, y, share, up, down, STYLE)
        if STYLE == "sparse":
            new = sparsely_moved(x, y, rises, up_last, up_share, falls, down_last, down_share)
            q = tl.where(fills[:, None], q, new)
        mine = here == t[:, None]
        top += tl.sum(tl.where(mine, q, 0.0), 1)
        rival = tl.maximum(rival, tl.max(tl.where(mine, 0.0, rounded(q, T).to(tl.float64)), 1))
    entry = leading_entry(top, rounded(rival, T), top * 0, T)
    for i in range(CHUNKS):
        here = cols + i * cols.shape[1]
        x, y = pair(p_at, v_at, from_total, to_total, here, valid[:, None] & (here < k))
        q = _moved(x, y, share, up, down, STYLE)
        if STYLE == "sparse":
            new = sparsely_moved(x, y, rises, up_last, up_share, falls, down_last, down_share)
            q = tl.where(fills[:, None], q, new)
        q = rounded(q, T)
        q = tl.where(here == t[:, None], entry[:, None], q)
        tl.store(out_at + here, q, mask=valid[:, None] & (here < k))
    refused = ok & ~valid
    if any_of(refused):
        write_safe_answer(out_at, cols, k, t, known, refused, T, CHUNKS)
        count_refused(status, refused)


@triton.jit
def _moved(p, v, share, up, down, STYLE: tl.constexpr):
    """The answer before rounding, straight or water-filled, cut off at zero."""
    d = v - p
    if STYLE == "straight":
        q = tl.where(share[:, None] < 1, p + share[:, None] * d, v)
    else:
        raised = tl.minimum(tl.maximum(d, 0.0), up[:, None])
        lowered = tl.minimum(tl.maximum(-d, 0.0), down[:, None])
        q = p + raised - lowered
    return tl.maximum(q, 0.0)


def move(
    p: Tensor, target: Tensor, epsilon: float | None, norm: str, style: str
) -> tuple[Tensor, Tensor]:
    """Moves the rows of p toward target; returns the rows and the number of invalid ones."""
    p, target = in_columns(p), in_columns(target)
    n, k = p.shape
    shape = float64_shape(k, norm)
    out, status = outputs(p, None, shape)
    if n > 0:
        move_kernel[shape.grid(n)](
            p,
            target,
            out,
            status,
            n,
            k,
            p.stride(0),
            target.stride(0),
            radius(epsilon),
            TOLERANCE=SUM_TOLERANCE[p.dtype],
            NORM=norm,
            STYLE=style,
            **shape.tile(),
            **shape.options(),
        )
    return out, status
