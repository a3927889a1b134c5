"""Bracketed Newton for decreasing, piecewise linear functions, one root a row; rows are frozen once done.

A loop over rows runs until its last row is done. Every update is masked, so that a row's bits do not depend on
its neighbours.
"""

from __future__ import annotations

import triton
import triton.language as tl

# Entries of a row are at most 1; a set thinner than SLACK counts as not empty.
RESOLUTION: tl.constexpr = tl.constexpr(1e-17)
ROUNDOFF: tl.constexpr = tl.constexpr(2.3e-16)
SLACK: tl.constexpr = tl.constexpr(1e-12)
# Newton can converge slowly from one end of the bracket, or miss a jump: from this turn on it takes every fourth turn.
PATIENCE: tl.constexpr = tl.constexpr(8)
MOST_TURNS: tl.constexpr = tl.constexpr(200)
# A level farther from its base than this has lost digits: the search starts again around it.
NEAR: tl.constexpr = tl.constexpr(8.0)


@triton.jit
def any_of(mask):
    """Whether a row of the program is in the mask, as a scalar to branch on."""
    return tl.max(mask.to(tl.int32), 0) > 0


@triton.jit
def _rank(x):
    """Integers in the order of the reals: halving a bracket in them takes at most 64 steps at any scale."""
    bits = x.to(tl.int64, bitcast=True)
    return tl.where(bits < 0, -0x8000000000000000 - bits, bits)


@triton.jit
def midpoint(lo, hi):
    """Middle of a bracket: in value once it is as narrow as the entries of a row, in rank before."""
    a, b = _rank(lo), _rank(hi)
    middle = (a & b) + ((a ^ b) >> 1)
    middle = tl.where(middle < 0, -0x8000000000000000 - middle, middle)
    ranked = middle.to(tl.float64, bitcast=True)
    return tl.where(hi - lo <= 8.0, lo + (hi - lo) / 2, ranked)


@triton.jit
def begin(start, lo, hi):
    """The first point to try."""
    return tl.where((start > lo) & (start < hi), start, midpoint(lo, hi))


@triton.jit
def shrink(x, lo, hi, done, value):
    """The bracket once f(x) is known."""
    lo = tl.where(~done & (value > 0), x, lo)
    hi = tl.where(~done & (value < 0), x, hi)
    return lo, hi


@triton.jit
def newton(x, lo, hi, value, slope, turn):
    """Newton's point, whether the bracket is divided instead (slope 0 among others), and whether x has converged."""
    tangent = slope < 0
    point = tl.where(tangent, x - value / tl.where(tangent, slope, -1.0), lo - 1.0)
    refused = ~((point > lo) & (point < hi)) | ((turn >= PATIENCE) & (turn % 4 != 0))
    arrived = tl.abs(point - x) <= RESOLUTION + ROUNDOFF * tl.abs(x)
    return point, refused & ~arrived, arrived


@triton.jit
def advance(x, lo, hi, done, value, point, refused, arrived, divided):
    """The next x, and whether the row is done."""
    there = value == 0
    point = tl.where(refused, divided, point)
    stuck = ~arrived & ~((point > lo) & (point < hi))
    x = tl.where(done | there | stuck, x, point)
    return x, done | there | stuck | arrived


@triton.jit
def step_level(base, x, lo, hi, done, value, slope, least, most, turn):
    """One turn on a level base + x; z_j − base is exact near the level, whatever the scale of z.

    Args:
        base: what has been taken off the level, [R].
        x: the level's offset, [R].
        lo: lower end of the offset's bracket, [R].
        hi: upper end, [R].
        done: rows that have their level, [R].
        value: the decreasing function at the level, [R].
        slope: its slope, [R].
        least: lower end of the level's bracket, [R].
        most: upper end, [R].
        turn: how many turns went before.

    Returns:
        base, x, lo, hi, done.
    """
    was = done
    lo, hi = shrink(x, lo, hi, done, value)
    point, refused, arrived = newton(x, lo, hi, value, slope, turn)
    divided = midpoint(lo, hi)
    x, done = advance(x, lo, hi, done, value, point, refused, arrived, divided)
    again = done & ~was & (tl.abs(x) > NEAR)
    base = tl.where(again, base + x, base)
    lo, hi = tl.where(again, least - base, lo), tl.where(again, most - base, hi)
    x = tl.where(again, 0.0, x)
    return base, x, lo, hi, done & ~again
