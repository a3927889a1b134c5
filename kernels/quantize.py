"""10. The nearest codeword of the row's label, by distances in whole units; see `mipoison.reference.quantize`."""

from __future__ import annotations

import triton
import triton.language as tl
from mipoison.kernels.launch import float64_shape, in_columns, outputs
from mipoison.kernels.roots import any_of
from mipoison.kernels.rounding import leading_entry, rounded
from mipoison.kernels.rows import (
    LARGEST,
    begin_count,
    count_refused,
    is_probability,
    read,
    rows_of_program,
    survey,
    write_safe_answer,
)
from torch import Tensor

from mipoison.reference.quantize import SUM_UNITS, UNITS
from mipoison.reference.rounding import SUM_TOLERANCE

_UNITS: tl.constexpr = tl.constexpr(UNITS)
_SUM_UNITS: tl.constexpr = tl.constexpr(SUM_UNITS)


@triton.jit
def _units(x, inside):
    """Entries in [0, 2) as whole units; zero where masked, and for entries that are none."""
    whole = inside & (x >= 0) & (x < 2)
    return (tl.where(whole, x, 0.0) * _UNITS).to(tl.int32)


@triton.jit
def _compared(word_at, p_at, cols, k, ok, t, CHUNKS: tl.constexpr):
    """A codeword of each row in units: their sum less twice the smaller units of both, and where it is usable; [R]."""
    top = tl.load(word_at + t[:, None], mask=ok[:, None], other=0.0)
    common, outside = tl.zeros_like(t), tl.zeros_like(t)
    total = common.to(tl.int64)
    for i in range(CHUNKS):
        here = cols + i * cols.shape[1]
        inside = ok[:, None] & (here < k)
        x = tl.load(word_at + here, mask=inside, other=0.0)
        good = (x >= 0) & (x <= top)
        outside = tl.maximum(outside, tl.max((inside & ~good).to(tl.int32), 1))
        v = _units(x, good)
        u = _units(read(p_at, here, inside), inside)
        total += tl.sum(v.to(tl.int64), 1)
        common += tl.sum(tl.minimum(u, v), 1)
    usable = (outside == 0) & (tl.max(top, 1) < 2) & (tl.abs(total - _UNITS) <= _SUM_UNITS + k)
    return tl.where(usable, total, 0).to(tl.int32) - 2 * common, usable


# One kernel serves every batch and number of codewords.
@triton.jit(do_not_specialize=["n", "words"])
def quantize_kernel(
    p,
    codewords,
    offsets,
    out,
    numbers,
    status,
    n,
    k,
    words,
    p_stride,
    TOLERANCE: tl.constexpr,
    R: tl.constexpr,
    B: tl.constexpr,
    CHUNKS: tl.constexpr,
):
    """R rows a program."""
    T: tl.constexpr = p.dtype.element_ty
    begin_count(status)
    row, ok = rows_of_program(n, R)
    cols = tl.arange(0, B)[None, :]
    p_at, out_at = p + (row * p_stride)[:, None], out + (row * k)[:, None]

    extent, total, low, t = survey(p_at, cols, k, ok, CHUNKS)
    known = extent <= LARGEST
    valid = ok & is_probability(extent, total, low, TOLERANCE)
    label = t
    t = tl.where(valid, t, 0)
    first = t.to(tl.int64) * words

    number = tl.zeros_like(t)
    shortest = number + 0x7FFFFFFF
    for m in range(words):
        word_at = codewords + ((first + m) * k)[:, None]
        distance, usable = _compared(word_at, p_at, cols, k, valid, t, CHUNKS)
        if offsets is not None:
            offset = tl.load(offsets + first + m, mask=valid, other=0.0)
            usable = usable & (offset >= 0) & (offset <= 1)
            distance += _units(offset, usable)
        valid = valid & usable
        nearer = distance < shortest
        number = tl.where(nearer, m, number)
        shortest = tl.where(nearer, distance, shortest)

    word_at = codewords + ((first + number) * k)[:, None]
    size = tl.zeros_like(total)
    for i in range(CHUNKS):
        here = cols + i * cols.shape[1]
        size += tl.sum(read(word_at, here, valid[:, None] & (here < k)), 1)
    size = tl.where(valid, size, 1.0)
    rival, top = size * 0, size * 0
    for i in range(CHUNKS):
        here = cols + i * cols.shape[1]
        q = read(word_at, here, valid[:, None] & (here < k)) / size[:, None]
        mine = here == t[:, None]
        top += tl.sum(tl.where(mine, q, 0.0), 1)
        rival = tl.maximum(rival, tl.max(tl.where(mine, 0.0, rounded(q, T).to(tl.float64)), 1))
    entry = leading_entry(top, rounded(rival, T), top * 0, T)
    for i in range(CHUNKS):
        here = cols + i * cols.shape[1]
        q = read(word_at, here, valid[:, None] & (here < k)) / size[:, None]
        # (An entry of −0 is written as 0.)
        q = tl.where(here == t[:, None], entry[:, None], rounded(tl.maximum(q, 0.0), T))
        tl.store(out_at + here, q, mask=valid[:, None] & (here < k))
    tl.store(numbers + row, tl.where(valid, number, -1).to(tl.int64), mask=ok)
    refused = ok & ~valid
    if any_of(refused):
        write_safe_answer(out_at, cols, k, label, known, refused, T, CHUNKS)
        count_refused(status, refused)


def quantize(
    p: Tensor, codewords: Tensor, offsets: Tensor | None, out: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Finds the nearest codewords; returns the rows, the numbers, and how many rows are invalid."""
    p = in_columns(p)
    n, k = p.shape
    shape = float64_shape(k, "none")
    out, status = outputs(p, out, shape)
    numbers = p.new_empty((n,), dtype=status.dtype)
    if n > 0:
        quantize_kernel[shape.grid(n)](
            p,
            codewords.contiguous(),
            None if offsets is None else offsets.contiguous(),
            out,
            numbers,
            status,
            n,
            k,
            codewords.shape[1],
            p.stride(0),
            TOLERANCE=SUM_TOLERANCE[p.dtype],
            **shape.tile(),
            **shape.options(),
        )
    return out, numbers, status
