"""One side of a sparse move: the smallest changes are made in full while they fit, and the others not at all."""

from __future__ import annotations

import triton
import triton.language as tl
from mipoison.kernels.roots import any_of
from mipoison.kernels.rows import pair

from mipoison.reference.move import TIE

NEAR_TIE: tl.constexpr = tl.constexpr(TIE)


@triton.jit
def _changes(p_at, v_at, from_total, to_total, cols, inside, sign):
    """One side's changes of some columns, zero outside."""
    p, v = pair(p_at, v_at, from_total, to_total, cols, inside)
    return tl.where(inside, tl.maximum(sign * (v - p), 0.0), 0.0)


@triton.jit
def sparse_side(p_at, v_at, from_total, to_total, cols, k, ok, budget, sign, CHUNKS: tl.constexpr):
    """Which of one side's changes are made: those below a level in full, and those up to a second one by a share.

    The levels lie around θ, the largest change such that the smaller ones fit into the budget. Every point that is
    tried replaces an end of the bracket by the next change, so that the bracket ends at θ itself.

    Returns:
        the two levels, infinite where all fit, and the share; [R] each.
    """
    total, hi = tl.zeros_like(from_total), tl.zeros_like(from_total)
    lo = total + float("inf")
    for i in range(CHUNKS):
        here = cols + i * cols.shape[1]
        d = _changes(p_at, v_at, from_total, to_total, here, ok[:, None] & (here < k), sign)
        total += tl.sum(d, 1)
        hi = tl.maximum(hi, tl.max(d, 1))
        lo = tl.minimum(lo, tl.min(tl.where(d > 0, d, float("inf")), 1))
    bounded = ok & (total > budget)
    todo = bounded & (lo < hi)
    while any_of(todo):
        point = tl.sqrt(tl.where(todo, lo, 1.0)) * tl.sqrt(hi)
        point = tl.where((point > lo) & (point < hi), point, hi)
        below, least, most = total * 0, total * 0 + float("inf"), total * 0
        for i in range(CHUNKS):
            here = cols + i * cols.shape[1]
            inside = ok[:, None] & (here < k)
            d = _changes(p_at, v_at, from_total, to_total, here, inside, sign)
            smaller = d < point[:, None]
            below += tl.sum(tl.where(smaller, d, 0.0), 1)
            most = tl.maximum(most, tl.max(tl.where(smaller, d, 0.0), 1))
            least = tl.minimum(least, tl.min(tl.where(smaller, float("inf"), d), 1))
        fits = below <= budget
        lo = tl.where(todo & fits, least, lo)
        hi = tl.where(todo & ~fits, most, hi)
        todo = todo & (lo < hi)
    first, last = lo - NEAR_TIE, lo + NEAR_TIE
    full, tied = total * 0, total * 0
    for i in range(CHUNKS):
        here = cols + i * cols.shape[1]
        d = _changes(p_at, v_at, from_total, to_total, here, ok[:, None] & (here < k), sign)
        full += tl.sum(tl.where(d < first[:, None], d, 0.0), 1)
        tied += tl.sum(tl.where((d >= first[:, None]) & (d <= last[:, None]), d, 0.0), 1)
    share = tl.minimum(tl.maximum(budget - full, 0.0) / tl.maximum(tied, 1e-300), 1.0)
    return (
        tl.where(bounded, first, float("inf")),
        tl.where(bounded, last, float("inf")),
        tl.where(bounded, share, 1.0),
    )


@triton.jit
def sparsely_moved(p, v, up, up_last, up_share, down, down_last, down_share):
    """The answer before rounding."""
    d = v - p
    rises = d > 0
    first = tl.where(rises, up[:, None], down[:, None])
    last = tl.where(rises, up_last[:, None], down_last[:, None])
    part = p + d * tl.where(rises, up_share[:, None], down_share[:, None])
    change = tl.abs(d)
    return tl.where(change < first, v, tl.where(change <= last, part, p))
