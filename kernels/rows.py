"""A program's rows in float64: validity, labels, and one view of them for rows in registers and rows in chunks.

A tile is [R, B]: R rows a program, B columns a chunk. CHUNKS = 1 keeps the row in registers; longer
rows are read again by every pass, chunk by chunk, which needs no scratch memory.
"""

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl
from mipoison.kernels.rounding import rounded

# Beyond the first, differences and sums leave the range of float64; beyond the second, a point to
# project has lost the digits that distinguish its entries.
LARGEST: tl.constexpr = tl.constexpr(1e200)
FARTHEST: tl.constexpr = tl.constexpr(1e15)


class Rows(NamedTuple):
    """What every pass over the rows needs. Invalid rows read as harmless ones: z = 0, p uniform."""

    z: tl.tensor  # [R, B] in registers; unused in chunks
    p: tl.tensor
    cols: tl.tensor  # [1, B], the columns of the first chunk
    q_at: tl.tensor  # [R, 1], where the rows begin
    g_at: tl.tensor
    p_at: tl.tensor
    lift: tl.tensor  # [R, 1], z = q + (g · lift) · scale
    scale: tl.tensor
    total: tl.tensor  # [R, 1], Σp as given
    valid: tl.tensor  # [R, 1]
    k: tl.tensor


@triton.jit
def rows_of_program(n, R: tl.constexpr):
    """Indices of the program's rows, and which of them exist; [R] each."""
    row = tl.program_id(0).to(tl.int64) * R + tl.arange(0, R)
    return row, row < n


@triton.jit
def given_label(t_at, known, k):
    """The given labels, with 0 for an invalid one, and where they are valid; [R] each."""
    label = tl.load(t_at, mask=known, other=-1)
    known = known & (label >= 0) & (label < k)
    return tl.where(known, label, 0).to(tl.int32), known


@triton.jit
def begin_count(status):
    """Zeroes the count of invalid rows where this is the only program, which saves a launch."""
    if tl.num_programs(0) == 1:
        tl.store(status, tl.full([], 0, tl.int64))


@triton.jit
def count_refused(status, refused):
    """Adds the program's invalid rows."""
    count = tl.sum(refused.to(tl.int64), 0)
    if count > 0:
        tl.atomic_add(status, count)


@triton.jit
def read(at, cols, mask):
    """Some columns of the rows in float64, zero where masked."""
    return tl.load(at + cols, mask=mask, other=0.0).to(tl.float64)


@triton.jit
def pair(p_at, v_at, from_total, to_total, cols, mask):
    """Some columns of p and v, renormalised."""
    return (
        read(p_at, cols, mask) / from_total[:, None],
        read(v_at, cols, mask) / to_total[:, None],
    )


@triton.jit
def form(q_at, g_at, p_at, lift, scale, total, valid, k, cols):
    """Z = q + α·g/‖g‖₂ and p/Σp; columns beyond the row read z = −inf, p = 0."""
    inside = cols < k
    z = read(q_at, cols, valid & inside)
    z += read(g_at, cols, valid & inside) * lift * scale
    z = tl.where(inside, z, float("-inf"))
    p = read(p_at, cols, valid & inside) / total
    p = tl.where(inside & ~valid, 1.0 / k, p)
    return z, p


@triton.jit
def part(rows, i, s, CHUNKS: tl.constexpr, SLIDE: tl.constexpr):
    """The i-th chunk: z (slid toward p: p + s(z − p) where s < 1), p, and the columns."""
    if CHUNKS == 1:
        z, p, cols = rows.z, rows.p, rows.cols
    else:
        cols = rows.cols + i * rows.cols.shape[1]
        z, p = form(
            rows.q_at,
            rows.g_at,
            rows.p_at,
            rows.lift,
            rows.scale,
            rows.total,
            rows.valid,
            rows.k,
            cols,
        )
    if SLIDE:
        s = s[:, None]
        z = tl.where((s < 1) & (cols < rows.k), p + s * (z - p), z)
    return z, p, cols


@triton.jit
def survey(at, cols, k, ok, CHUNKS: tl.constexpr):
    """What validation and the label need of the rows at an address, each [R].

    Returns:
        the largest magnitude (infinite where an entry is NaN), the sum, the smallest entry, and the
        lowest index of the largest.
    """
    extent = tl.zeros_like(ok).to(tl.float64)
    total, low = extent, extent + float("inf")
    top, label = extent + float("-inf"), tl.zeros_like(ok).to(tl.int32)
    for i in range(CHUNKS):
        here = cols + i * cols.shape[1]
        inside = ok[:, None] & (here < k)
        x = read(at, here, inside)
        size = tl.where(tl.abs(x) <= LARGEST, tl.abs(x), float("inf"))
        extent = tl.maximum(extent, tl.max(size, 1))
        x = tl.where(size <= LARGEST, x, 0.0)
        total += tl.sum(x, 1)
        low = tl.minimum(low, tl.min(tl.where(inside, x, float("inf")), 1))
        x = tl.where(inside, x, float("-inf"))
        highest = tl.max(x, 1)
        first = tl.min(tl.where(x == highest[:, None], here, k), 1)
        label = tl.where(highest > top, first, label)
        top = tl.maximum(top, highest)
    return extent, total, low, label


@triton.jit
def is_probability(extent, total, low, TOLERANCE: tl.constexpr):
    """Finite, ≥ 0 and of sum one within the tolerance; [R]."""
    return (extent <= LARGEST) & (low >= 0) & (tl.abs(total - 1.0) <= TOLERANCE)


@triton.jit
def lead(p_at, total, cols, k, ok, t, CHUNKS: tl.constexpr):
    """How far label t leads the renormalised p; 0 where it does not; [R]."""
    p_t, rival = total * 0, total * 0
    for i in range(CHUNKS):
        here = cols + i * cols.shape[1]
        p = read(p_at, here, ok[:, None] & (here < k)) / total[:, None]
        mine = here == t[:, None]
        p_t += tl.sum(tl.where(mine, p, 0.0), 1)
        rival = tl.maximum(rival, tl.max(tl.where(mine, 0.0, p), 1))
    return tl.maximum(p_t - rival, 0.0)


@triton.jit
def length(g_at, extent, cols, k, ok, CHUNKS: tl.constexpr):
    """(lift, scale) with g·lift·scale = g/‖g‖₂; (1, 0) where g = 0. Squares neither overflow nor vanish."""
    # Below 1e-200 the reciprocal of float64's smallest numbers would overflow.
    lift = tl.where(extent < 1e-200, 4.149515568880993e180, 1.0)
    largest = extent * lift
    unit = 1.0 / tl.where(largest > 0, largest, 1.0)
    squares = extent * 0
    for i in range(CHUNKS):
        here = cols + i * cols.shape[1]
        g = read(g_at, here, ok[:, None] & (here < k)) * lift[:, None] * unit[:, None]
        squares += tl.sum(g * g, 1)
    return lift, tl.where(largest > 0, unit / tl.sqrt(tl.where(largest > 0, squares, 1.0)), 0.0)


@triton.jit
def write_safe_answer(out_at, cols, k, t, known, mask, T: tl.constexpr, CHUNKS: tl.constexpr):
    """The safe answer: one-hot at t where that is known, else uniform."""
    for i in range(CHUNKS):
        here = cols + i * cols.shape[1]
        hot = (here == t[:, None]).to(tl.float64)
        x = tl.where(known[:, None], hot, 1.0 / k.to(tl.float64))
        tl.store(out_at + here, rounded(x, T), mask=mask[:, None] & (here < k))
