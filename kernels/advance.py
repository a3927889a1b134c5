"""11. The other half of a step of `perturb`: the projection of the step, and its shortening where the goal is near."""

from __future__ import annotations

import triton
import triton.language as tl
from mipoison.kernels.project_float32 import project_float32
from mipoison.kernels.project_float64 import project_float64
from mipoison.kernels.roots import any_of
from mipoison.kernels.rounding import leading_entry, rounded
from mipoison.kernels.rows import (
    LARGEST,
    begin_count,
    count_refused,
    rows_of_program,
    survey,
    write_safe_answer,
)


# The number of rows is not compiled in: one kernel serves every batch size.
@triton.jit(do_not_specialize=["n"])
def advance_kernel(
    q,
    along,
    center,
    labels,
    refusals,
    shares,
    stepped,
    out,
    status,
    n,
    k,
    q_stride,
    center_stride,
    out_stride,
    alpha: tl.float64,
    epsilon: tl.float64,
    margin: tl.float64,
    TOLERANCE: tl.constexpr,
    NORM: tl.constexpr,
    SHRINK: tl.constexpr,
    LAST: tl.constexpr,
    TRY_FLOAT32: tl.constexpr,
    R: tl.constexpr,
    B: tl.constexpr,
    C: tl.constexpr,
    CHUNKS: tl.constexpr,
):
    """R rows a program: projects q + α·along/‖along‖₂ as `project_kernel` does, and goes a share of the way there.

    The LAST step answers refused rows and counts them.
    """
    T: tl.constexpr = q.dtype.element_ty
    if LAST:
        begin_count(status)
    row, ok = rows_of_program(n, R)
    q_at, center_at = q + (row * q_stride)[:, None], center + (row * center_stride)[:, None]
    along_at, stepped_at = along + (row * k)[:, None], stepped + (row * k)[:, None]
    left = tl.load(refusals + row, mask=ok, other=1) == 0
    # The interpreter passes Python floats, which operations would round to float32.
    alpha = tl.full([R], alpha, tl.float64)
    epsilon = tl.full([R], epsilon, tl.float64)
    margin = tl.full([R], margin, tl.float64)
    if TRY_FLOAT32:
        served = project_float32(
            q_at,
            along_at,
            center_at,
            labels + row,
            stepped_at,
            tl.arange(0, B)[None, :],
            k,
            left,
            alpha,
            margin,
            TOLERANCE,
            SHRINK,
            False,
        )
        left = left & ~served
    if any_of(left):
        refused = project_float64(
            q_at,
            along_at,
            center_at,
            labels + row,
            stepped_at,
            tl.arange(0, C)[None, :],
            k,
            left,
            alpha,
            epsilon,
            margin,
            TOLERANCE,
            NORM,
            SHRINK,
            CHUNKS,
        )
        tl.store(refusals + row, 1, mask=refused)
    # (Other threads have written these entries, and the refusals are read again, which spares registers meanwhile.)
    tl.debug_barrier()
    usable = tl.load(refusals + row, mask=ok, other=1) == 0
    out_at = out + (row * out_stride)[:, None]
    cols = tl.arange(0, C)[None, :]
    label = tl.load(labels + row, mask=ok, other=0)
    share = tl.load(shares + row, mask=usable, other=1.0)
    _go(q_at, stepped_at, out_at, share, label, cols, k, usable, CHUNKS)
    if LAST:
        refused = ok & ~usable
        if any_of(refused):
            extent, _, _, label = survey(center_at, cols, k, refused, CHUNKS)
            # (Where the answer is written over the center, other threads may have to read it yet.)
            tl.debug_barrier()
            write_safe_answer(out_at, cols, k, label, extent <= LARGEST, refused, T, CHUNKS)
            count_refused(status, refused)


@triton.jit
def _between(q_at, stepped_at, share, cols, inside):
    """Some columns of q + share · (stepped − q), rounded; of stepped where the share is 1 or more."""
    T: tl.constexpr = q_at.dtype.element_ty
    q = tl.load(q_at + cols, mask=inside, other=0.0)
    stepped = tl.load(stepped_at + cols, mask=inside, other=0.0)
    if tl.float64 == T:
        x = q + share.to(tl.float64)[:, None] * (stepped - q)
    else:
        low = q.to(tl.float32)
        x = low + share[:, None] * (stepped.to(tl.float32) - low)
    return tl.where(share[:, None] >= 1, stepped, rounded(x, T))


@triton.jit
def _go(q_at, stepped_at, out_at, share, label, cols, k, usable, CHUNKS: tl.constexpr):
    """Writes the step, as much of it as the share says. Both ends have the label: rounding can only make a tie."""
    T: tl.constexpr = q_at.dtype.element_ty
    top = share.to(tl.float64) * 0 - 1
    rival = top
    for i in range(CHUNKS):
        here = cols + i * cols.shape[1]
        inside = usable[:, None] & (here < k)
        x = _between(q_at, stepped_at, share, here, inside).to(tl.float64)
        mine = here == label[:, None]
        top = tl.maximum(top, tl.max(tl.where(mine, x, -1.0), 1))
        rival = tl.maximum(rival, tl.max(tl.where(mine | ~inside, -1.0, x), 1))
    entry = leading_entry(top, rounded(tl.maximum(rival, 0.0), T), top * 0, T)
    # (The rows may be written where they are read, and other threads may have to read them yet.)
    tl.debug_barrier()
    for i in range(CHUNKS):
        here = cols + i * cols.shape[1]
        inside = usable[:, None] & (here < k)
        x = _between(q_at, stepped_at, share, here, inside)
        x = tl.where(here == label[:, None], entry[:, None], x)
        tl.store(out_at + here, x, mask=inside)
