"""11. Half a step of `perturb`: where the networks' gradient points from each row, and how much of the step to take."""

from __future__ import annotations

import triton
import triton.language as tl
from mipoison.kernels.layers import (
    MOST_FLOAT32,
    activities,
    backward,
    finite_extent,
    forward,
    gradient,
    standardise,
    unpacked,
)
from mipoison.kernels.rounding import rounded
from mipoison.kernels.rows import is_probability, survey


# One kernel serves every batch, number of networks and number of outputs.
@triton.jit(do_not_specialize=["n", "members", "wanted", "lanes"])
def aim_kernel(
    q,
    goal,
    network,
    center,
    near,
    scratch,
    along,
    labels,
    refusals,
    shares,
    n,
    k,
    members,
    wanted,
    lanes,
    q_stride,
    goal_stride,
    center_stride,
    TOLERANCE: tl.constexpr,
    FIRST: tl.constexpr,
    SMOOTH: tl.constexpr,
    W: tl.constexpr,
    R: tl.constexpr,
    B: tl.constexpr,
    C: tl.constexpr,
    CHUNKS: tl.constexpr,
):
    """R rows at a time: writes −∇, the share of the step that is taken, and which rows are refused.

    The FIRST step finds labels and validity.
    """
    net = unpacked(network, k, members, lanes, W)
    at = activities(scratch, net, W, R)
    cols = tl.arange(0, C)[None, :]
    for tile in range(tl.program_id(0), tl.cdiv(n, R), tl.num_programs(0)):
        row = tl.arange(0, R).to(tl.int64) + tile * R
        ok = row < n
        q_at, goal_at = q + (row * q_stride)[:, None], goal + (row * goal_stride)[:, None]
        if FIRST:
            center_at = center + (row * center_stride)[:, None]
            extent, total, low, label = survey(center_at, cols, k, ok, CHUNKS)
            usable = ok & is_probability(extent, total, low, TOLERANCE)
            tl.store(labels + row, label, mask=ok)
            extent, total, low, label = survey(q_at, cols, k, ok, CHUNKS)
            usable = usable & is_probability(extent, total, low, TOLERANCE)
        else:
            usable = tl.load(refusals + row, mask=ok, other=1) == 0
        standardise(net, at, q_at, k, usable, R)
        forward(net, at, W, R, B)
        distance = backward(net, at, goal_at, wanted, usable, W, SMOOTH, R, B)
        share = tl.full([R], 1.0, tl.float32)
        if near is not None:
            enough = tl.load(near + row, mask=ok, other=1.0)
            usable = usable & (enough > 0) & (enough <= MOST_FLOAT32)
            share = tl.div_rn(distance, tl.where(usable, enough, 1.0))
        size = tl.zeros([R], tl.float32)
        for i in range(CHUNKS):
            size = tl.maximum(
                size, finite_extent(gradient(at, q_at, cols + i * C, k, usable, SMOOTH))
            )
        # A goal that is not finite has no finite distance.
        usable = usable & (distance <= MOST_FLOAT32) & (size <= MOST_FLOAT32)
        # Over the largest entry, so that no dtype loses the direction.
        size = tl.where(usable & (size > 0), size, 1.0)[:, None]
        for i in range(CHUNKS):
            here = cols + i * C
            g = gradient(at, q_at, here, k, usable, SMOOTH)
            g = tl.div_rn(g, size + g * 0)
            # (From float32, rounding goes by magnitude, and leaves the sign.)
            g = rounded(-g, along.dtype.element_ty)
            tl.store(along + (row * k)[:, None] + here, g, mask=ok[:, None] & (here < k))
        tl.store(shares + row, share, mask=ok)
        tl.store(refusals + row, (~usable).to(tl.int32), mask=ok)
