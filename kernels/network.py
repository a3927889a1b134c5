"""11. What small networks recover from rows, and its gradient: the kernels and their launches."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from mipoison.kernels.launch import Tiles, in_columns, network_shape, outputs
from mipoison.kernels.layers import (
    MOST_FLOAT32,
    activities,
    backward,
    finite_extent,
    forward,
    gradient,
    output,
    standardise,
    unpacked,
)
from mipoison.kernels.roots import any_of
from mipoison.kernels.rows import begin_count, count_refused, is_probability, survey
from torch import Tensor

from mipoison.reference.network import LANES, Layers, whole_lanes
from mipoison.reference.rounding import SUM_TOLERANCE


# One kernel serves every batch, number of networks and number of outputs.
@triton.jit(do_not_specialize=["n", "members", "wanted", "lanes"])
def recover_kernel(
    p,
    network,
    scratch,
    out,
    status,
    n,
    k,
    members,
    wanted,
    lanes,
    p_stride,
    TOLERANCE: tl.constexpr,
    W: tl.constexpr,
    R: tl.constexpr,
    B: tl.constexpr,
    C: tl.constexpr,
    CHUNKS: tl.constexpr,
):
    """R rows at a time; networks of width W with so many lanes of outputs, of which the first are wanted."""
    begin_count(status)
    net = unpacked(network, k, members, lanes, W)
    at = activities(scratch, net, W, R)
    for tile in range(tl.program_id(0), tl.cdiv(n, R), tl.num_programs(0)):
        row = tl.arange(0, R).to(tl.int64) + tile * R
        ok = row < n
        p_at, out_at = p + (row * p_stride)[:, None], out + (row * wanted)[:, None]
        extent, total, low, _ = survey(p_at, tl.arange(0, C)[None, :], k, ok, CHUNKS)
        valid = ok & is_probability(extent, total, low, TOLERANCE)
        standardise(net, at, p_at, k, valid, R)
        forward(net, at, W, R, B)
        largest = tl.zeros([R], tl.float32)
        for j in range(0, wanted, B):
            cols = j + tl.arange(0, B)[None, :]
            inside = cols < wanted
            found = tl.where(inside, output(net, at, cols, W, R, B), 0.0)
            largest = tl.maximum(largest, finite_extent(found))
            tl.store(out_at + cols, found, mask=valid[:, None] & inside)
        refused = ok & ~(valid & (largest <= MOST_FLOAT32))
        if any_of(refused):
            # (Other threads may have written these entries.)
            tl.debug_barrier()
            for j in range(0, wanted, B):
                cols = j + tl.arange(0, B)[None, :]
                # NaN tells an overflow from a row that is no probability vector.
                fill = tl.zeros([R, B], tl.float32)
                fill = tl.where(valid[:, None], float("nan"), fill)
                tl.store(out_at + cols, fill, mask=refused[:, None] & (cols < wanted))
            count_refused(status, refused)


@triton.jit(do_not_specialize=["n", "members", "wanted", "lanes"])
def pull_kernel(
    q,
    goal,
    network,
    scratch,
    out,
    distances,
    status,
    n,
    k,
    members,
    wanted,
    lanes,
    q_stride,
    goal_stride,
    TOLERANCE: tl.constexpr,
    SMOOTH: tl.constexpr,
    W: tl.constexpr,
    R: tl.constexpr,
    B: tl.constexpr,
    C: tl.constexpr,
    CHUNKS: tl.constexpr,
):
    """R rows at a time."""
    begin_count(status)
    net = unpacked(network, k, members, lanes, W)
    at = activities(scratch, net, W, R)
    cols = tl.arange(0, C)[None, :]
    for tile in range(tl.program_id(0), tl.cdiv(n, R), tl.num_programs(0)):
        row = tl.arange(0, R).to(tl.int64) + tile * R
        ok = row < n
        q_at, out_at = q + (row * q_stride)[:, None], out + (row * k)[:, None]
        goal_at = goal + (row * goal_stride)[:, None]
        extent, total, low, _ = survey(q_at, cols, k, ok, CHUNKS)
        valid = ok & is_probability(extent, total, low, TOLERANCE)
        standardise(net, at, q_at, k, valid, R)
        forward(net, at, W, R, B)
        distance = backward(net, at, goal_at, wanted, valid, W, SMOOTH, R, B)
        # A goal that is not finite has no finite distance.
        valid = valid & (distance <= MOST_FLOAT32)
        largest = tl.zeros([R], tl.float32)
        for i in range(CHUNKS):
            largest = tl.maximum(
                largest, finite_extent(gradient(at, q_at, cols + i * C, k, valid, SMOOTH))
            )
        valid = valid & (largest <= MOST_FLOAT32)
        for i in range(CHUNKS):
            here = cols + i * C
            g = tl.where(valid[:, None], gradient(at, q_at, here, k, valid, SMOOTH), 0.0)
            tl.store(out_at + here, g, mask=ok[:, None] & (here < k))
        tl.store(distances + row, tl.where(valid, distance, 0.0), mask=ok)
        count_refused(status, ok & ~valid)


def lanes_of(network: Tensor, k: int, members: int, width: int, wanted: int) -> int:
    """Lanes of the networks' outputs, of which so many are wanted.

    Raises:
        ValueError: where these are no such networks.
    """
    depth = Layers.unpacked(network, k, members, width).bias2.shape[-1]
    if width % LANES or depth % LANES or not 0 < wanted <= depth:
        raise ValueError(
            f"expected networks in whole lanes of {LANES} with {wanted} outputs or more, got width {width} and {depth}"
        )
    return depth // LANES


def scratch_of(like: Tensor, shape: Tiles, members: int, width: int, lanes: int) -> Tensor:
    """Memory for the activities of every program."""
    n, k = like.shape
    row = whole_lanes(2 * k) + 2 * members * width + lanes * LANES
    return like.new_empty((shape.grid(n)[0] * shape.R * row,), dtype=torch.float32)


def recover(
    p: Tensor, network: Tensor, members: int, width: int, wanted: int
) -> tuple[Tensor, Tensor]:
    """Evaluates the networks; returns their first outputs, float32, and the number of invalid rows."""
    n, k = p.shape
    lanes, shape = lanes_of(network, k, members, width, wanted), network_shape(k, width)
    p = in_columns(p)
    found, status = outputs(p.new_empty((n, wanted), dtype=torch.float32), None, shape)
    if n > 0:
        recover_kernel[shape.grid(n)](
            p,
            network.contiguous(),
            scratch_of(p, shape, members, width, lanes),
            found,
            status,
            n,
            k,
            members,
            wanted,
            lanes,
            p.stride(0),
            TOLERANCE=SUM_TOLERANCE[p.dtype],
            W=width,
            **shape.constants(),
            **shape.options(),
        )
    return found, status


def pull(
    q: Tensor, goal: Tensor, network: Tensor, members: int, width: int, smooth: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Finds ∇ ½‖G(q) − goal‖², ‖G(q) − goal‖, both float32, and the number of invalid rows."""
    n, k = q.shape
    found = goal.shape[1]
    lanes, shape = lanes_of(network, k, members, width, found), network_shape(k, width)
    q, goal = in_columns(q), in_columns(goal)
    out = q.new_empty((n, k), dtype=torch.float32)
    out, status = outputs(out, out, shape)
    distance = out.new_empty((n,))
    if n > 0:
        pull_kernel[shape.grid(n)](
            q,
            goal,
            network.contiguous(),
            scratch_of(q, shape, members, width, lanes),
            out,
            distance,
            status,
            n,
            k,
            members,
            found,
            lanes,
            q.stride(0),
            goal.stride(0),
            TOLERANCE=SUM_TOLERANCE[q.dtype],
            SMOOTH=smooth,
            W=width,
            **shape.constants(),
            **shape.options(),
        )
    return out, distance, status
