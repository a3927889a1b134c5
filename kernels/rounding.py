"""8. The last rounding of a row: once, to nearest even, and with the label strict afterwards."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def rounded(x, T: tl.constexpr):
    """Rounds x ≥ 0 to the dtype once.

    From float64 to 16 bits by way of float32, a tie could be rounded twice. Rounding to odd in float32
    prevents that.
    """
    if (tl.float16 == T or tl.bfloat16 == T) and x.dtype == tl.float64:
        single = x.to(tl.float32)
        error = x - single.to(tl.float64)
        bits = single.to(tl.int32, bitcast=True)
        bits = (bits - (error < 0).to(tl.int32)) | (error != 0).to(tl.int32)
        return _narrowed(bits.to(tl.float32, bitcast=True), T)
    elif tl.bfloat16 == T:
        return _narrowed(x.to(tl.float32), T)
    else:
        return x.to(T)


@triton.jit
def _narrowed(x, T: tl.constexpr):
    """Float32 x ≥ 0 to 16 bits, ties to even; bfloat16 in integers, so that every compiler does the same."""
    if tl.bfloat16 == T:
        bits = x.to(tl.int32, bitcast=True)
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        return bits.to(tl.int16).to(tl.bfloat16, bitcast=True)
    else:
        return x.to(T)


@triton.jit
def _above(x):
    """The next value of the dtype above x ≥ 0."""
    if x.dtype == tl.float64:
        return (x.to(tl.int64, bitcast=True) + 1).to(tl.float64, bitcast=True)
    elif x.dtype == tl.float32:
        return (x.to(tl.int32, bitcast=True) + 1).to(tl.float32, bitcast=True)
    else:
        return (x.to(tl.int16, bitcast=True) + 1).to(x.dtype, bitcast=True)


@triton.jit
def leading_entry(x, rival, m, T: tl.constexpr):
    """The label's entry: x rounded, lifted until it is m above every other entry and no tie.

    Args:
        x: the entry before rounding, float64 [R].
        rival: the largest other entry as written, of the dtype, [R].
        m: margins, float64 [R].
        T: the dtype.
    """
    other = rival.to(tl.float64)
    floor = other + m
    entry = rounded(x, T)
    entry = tl.where(entry.to(tl.float64) < floor, rounded(floor, T), entry)
    entry = tl.where(entry.to(tl.float64) < floor, _above(entry), entry)
    return tl.where(entry.to(tl.float64) > other, entry, _above(rival))
