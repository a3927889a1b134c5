"""LFP's operation: the keyed choice of rows and of their new labels, and the flipped vectors, in one kernel."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from mipoison.kernels.launch import float64_shape, in_columns, outputs
from mipoison.kernels.roots import any_of
from mipoison.kernels.rounding import leading_entry, rounded
from mipoison.kernels.rows import (
    LARGEST,
    Rows,
    begin_count,
    count_refused,
    form,
    is_probability,
    part,
    rows_of_program,
    survey,
    write_safe_answer,
)
from mipoison.kernels.simplex import simplex_levels
from mipoison.kernels.words import hash_canonical, words_of
from torch import Tensor

from mipoison.reference.rounding import SUM_TOLERANCE


@triton.jit
def _flipped(
    rows, i, old, new, at_old, at_new, base, tau, PROJECT: tl.constexpr, CHUNKS: tl.constexpr
):
    """The i-th chunk of the answer before rounding, and the columns; rows with new = old stay."""
    _, p, cols = part(rows, i, tau, CHUNKS, False)
    was, now = cols == old[:, None], cols == new[:, None]
    if PROJECT:
        q = tl.minimum(tl.maximum(p - base[:, None] - tau[:, None], 0.0), -tau[:, None])
        q = tl.where((new != old)[:, None], tl.where(now, -tau[:, None], q), p)
    else:
        q = tl.where(now, at_old[:, None], tl.where(was, at_new[:, None], p))
    return tl.where(cols < rows.k, q, 0.0), cols


# Key, threshold and the number of rows are values, never part of what is compiled.
@triton.jit(do_not_specialize=["n", "threshold", "k0", "k1", "k2", "k3"])
def flip_kernel(
    p,
    targets,
    out,
    labels,
    status,
    n,
    k,
    p_stride,
    target_stride,
    threshold: tl.int64,
    k0: tl.int64,
    k1: tl.int64,
    k2: tl.int64,
    k3: tl.int64,
    TOLERANCE: tl.constexpr,
    PROJECT: tl.constexpr,
    R: tl.constexpr,
    B: tl.constexpr,
    CHUNKS: tl.constexpr,
):
    """R rows a program; targets is None where the key draws them."""
    T: tl.constexpr = p.dtype.element_ty
    begin_count(status)
    row, ok = rows_of_program(n, R)
    cols = tl.arange(0, B)[None, :]
    p_at, out_at = p + (row * p_stride)[:, None], out + (row * k)[:, None]
    extent, total, low, old = survey(p_at, cols, k, ok, CHUNKS)
    known = extent <= LARGEST
    valid = ok & is_probability(extent, total, low, TOLERANCE)
    # 1. The row's words choose whether it flips, and to which label.
    hashed = hash_canonical(p_at, cols, k, ok, k3.to(tl.uint64), CHUNKS)
    draw = tl.zeros_like(row).to(tl.uint64)
    r0, r1, _, _ = words_of(hashed, draw, k0.to(tl.uint64), k1.to(tl.uint64), k2.to(tl.uint64))
    if targets is None:
        other = ((r1 * (k - 1).to(tl.uint64)) >> 32).to(tl.int32)
        new = other + (other >= old).to(tl.int32)
    else:
        wanted = tl.load(targets + row * target_stride, mask=ok, other=0)
        valid = valid & (wanted >= -1) & (wanted < k)
        new = tl.where(wanted < 0, old, tl.where(valid, wanted, old).to(tl.int32))
    selected = valid & (r0.to(tl.int64) < threshold)
    new = tl.where(selected, new, old)
    # 2. The vector: two entries change places, or the nearest one with the new label.
    total = tl.where(valid, total, 1.0)
    lift, scale = (total * 0 + 1)[:, None], (total * 0)[:, None]
    sums, sound = total[:, None], valid[:, None]
    z, center = form(p_at, p_at, p_at, lift, scale, sums, sound, k, cols)
    rows = Rows(z, center, cols, p_at, p_at, p_at, lift, scale, sums, sound, k)
    at_old, at_new, base, tau = total * 0, total * 0, total * 0, total * 0
    if PROJECT:
        # At slide 0 the point z is p, renormalised.
        base, tau = simplex_levels(rows, new, base, base, valid & (new != old), CHUNKS, True)
    else:
        for i in range(CHUNKS):
            _, x, here = part(rows, i, base, CHUNKS, False)
            at_old += tl.sum(tl.where(here == old[:, None], x, 0.0), 1)
            at_new += tl.sum(tl.where(here == new[:, None], x, 0.0), 1)
    rival, top = total * 0, total * 0
    for i in range(CHUNKS):
        q, here = _flipped(rows, i, old, new, at_old, at_new, base, tau, PROJECT, CHUNKS)
        mine = here == new[:, None]
        top += tl.sum(tl.where(mine, q, 0.0), 1)
        rival = tl.maximum(rival, tl.max(tl.where(mine, 0.0, rounded(q, T).to(tl.float64)), 1))
    entry = leading_entry(top, rounded(rival, T), total * 0, T)
    for i in range(CHUNKS):
        q, here = _flipped(rows, i, old, new, at_old, at_new, base, tau, PROJECT, CHUNKS)
        answer = tl.where(here == new[:, None], entry[:, None], rounded(q, T))
        tl.store(out_at + here, answer, mask=valid[:, None] & (here < k))
    # An invalid row is served with the label of its safe answer.
    served = tl.where(valid, new, tl.where(known, old, 0))
    tl.store(labels + row, served.to(tl.int64), mask=ok)
    refused = ok & ~valid
    if any_of(refused):
        write_safe_answer(out_at, cols, k, old, known, refused, T, CHUNKS)
        count_refused(status, refused)


def flip(
    p: Tensor, targets: Tensor | None, rate: float, key: Tensor, style: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Flips the rows that the key chooses; returns the rows, their labels and how many are invalid."""
    p = in_columns(p)
    n, k = p.shape
    labels = torch.empty((n,), dtype=torch.int64, device=p.device)
    shape = float64_shape(k, "none")
    out, status = outputs(p, None, shape)
    if n > 0:
        flip_kernel[shape.grid(n)](
            p,
            targets,
            out,
            labels,
            status,
            n,
            k,
            p.stride(0),
            0 if targets is None else targets.stride(0),
            int(rate * 2**32),
            *key.tolist(),
            TOLERANCE=SUM_TOLERANCE[p.dtype],
            PROJECT=style == "project",
            **shape.tile(),
            **shape.options(),
        )
    return out, labels, status
