"""11. Small networks on a program's rows: from features to outputs, and back to the gradient.

A program owns R rows, always as many, and scratch memory for their activities: a matrix product takes the layer below
chunk by chunk, which registers cannot be cut into. Widths, features and outputs are in whole lanes, so that no chunk is
masked. The numbers are float32, and every sum goes through the layer below in order: a row's bits do not depend on the
rows beside it.
"""

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl

from mipoison.reference.network import LANES as _LANES
from mipoison.reference.network import LOG_FLOOR as _LOG_FLOOR
from mipoison.reference.network import RAMP as _RAMP
from mipoison.reference.network import SMOOTHING as _SMOOTHING

LANES: tl.constexpr = tl.constexpr(_LANES)
LOG_FLOOR: tl.constexpr = tl.constexpr(_LOG_FLOOR)
SMOOTHING: tl.constexpr = tl.constexpr(_SMOOTHING)
RAMP: tl.constexpr = tl.constexpr(_RAMP)
# Units of the layer below that a product takes at a time. More of them take more registers than there are.
CHUNK: tl.constexpr = tl.constexpr(16)
MOST_FLOAT32: tl.constexpr = tl.constexpr(3.4028234663852886e38)


class Network(NamedTuple):
    """Where the tensors of `mipoison.reference.network.Layers` lie, the members' ones after another."""

    mean: tl.tensor
    inverse: tl.tensor
    weight0: tl.tensor
    bias0: tl.tensor
    weight1: tl.tensor
    bias1: tl.tensor
    weight2: tl.tensor
    bias2: tl.tensor
    back2: tl.tensor
    back1: tl.tensor
    back0: tl.tensor
    members: tl.tensor
    features: tl.tensor  # F
    depth: tl.tensor  # D


class Activities(NamedTuple):
    """Where the program's rows begin in its scratch memory, [R, 1]; those of hidden layers in the first member."""

    x: tl.tensor  # standardised features, later the gradient in them
    first: tl.tensor  # activities of the hidden layers, later the errors there
    second: tl.tensor
    error: tl.tensor  # mean outputs, later the errors there


@triton.jit
def whole_lanes(size):
    """The size rounded up to whole lanes."""
    return (size + (LANES - 1)) // LANES * LANES


@triton.jit
def unpacked(network, k, members, lanes, W: tl.constexpr):
    """The networks of width W with so many lanes of outputs."""
    m, f, d = members.to(tl.int64), whole_lanes(2 * k), lanes * LANES
    inverse = network + f
    weight0 = inverse + f
    bias0 = weight0 + m * f * W
    weight1 = bias0 + m * W
    bias1 = weight1 + m * (W * W)
    weight2 = bias1 + m * W
    bias2 = weight2 + m * d * W
    back2 = bias2 + m * d
    back1 = back2 + m * d * W
    back0 = back1 + m * (W * W)
    return Network(
        network,
        inverse,
        weight0,
        bias0,
        weight1,
        bias1,
        weight2,
        bias2,
        back2,
        back1,
        back0,
        members,
        f,
        d,
    )


@triton.jit
def activities(scratch, net, W: tl.constexpr, R: tl.constexpr):
    """The program's part of the scratch memory."""
    row = tl.arange(0, R)[:, None]
    hidden = net.members.to(tl.int64) * (R * W)
    size = 2 * hidden + R * (net.features + net.depth)
    first = scratch + tl.program_id(0) * size
    second = first + hidden
    x = second + hidden
    error = x + R * net.features
    return Activities(
        x + row * net.features, first + row * W, second + row * W, error + row * net.depth
    )


@triton.jit
def _times(x_at, inner, w_at, stride, cols, inside, total):
    """Total + x w, for rows of x in scratch memory and some columns of w."""
    for i in range(0, inner, CHUNK):
        some = i + tl.arange(0, CHUNK)
        x = tl.load(x_at + some[None, :])
        w = tl.load(w_at + some[:, None] * stride + cols, mask=inside, other=0.0)
        total = tl.dot(x, w, total, input_precision="ieee")
    return total


@triton.jit
def standardise(net, at, q_at, k, valid, R: tl.constexpr):
    """Writes the features (φ(q) − μ)/σ; of invalid rows those of the uniform one."""
    # (The gradient of the rows before may still be read.)
    tl.debug_barrier()
    for i in range(0, net.features, LANES):
        cols = i + tl.arange(0, LANES)[None, :]
        inside = cols < 2 * k
        source = tl.where(cols < k, cols, cols - k)
        q = tl.load(q_at + source, mask=valid[:, None] & inside, other=0.0).to(tl.float32)
        q = tl.where(valid[:, None], q, 1.0 / k)
        x = tl.where(cols < k, q, tl.log(tl.maximum(q, LOG_FLOOR)))
        x = tl.where(inside, x, 0.0)
        x = (x - tl.load(net.mean + cols)) * tl.load(net.inverse + cols)
        tl.store(at.x + cols, x)
    tl.debug_barrier()


@triton.jit
def _upward(
    net,
    x_at,
    x_step,
    inner,
    w_at,
    w_step,
    bias_at,
    out_at,
    W: tl.constexpr,
    R: tl.constexpr,
    B: tl.constexpr,
):
    """Writes relu(wᵀ x + b) of every member; the members' x and w lie so many numbers apart."""
    for m in range(net.members):
        for j in range(0, W, B):
            cols = j + tl.arange(0, B)[None, :]
            total = tl.zeros([R, B], tl.float32) + tl.load(bias_at + m * W + cols)
            w = w_at + m * w_step
            total = _times(x_at + m * x_step, inner, w, W, cols, cols < W, total)
            # (The larger of NaN and 0 would be 0, and an overflow would go unseen.)
            tl.store(out_at + m * (R * W) + cols, tl.where(total <= 0, 0.0, total))
    tl.debug_barrier()


@triton.jit
def forward(net, at, W: tl.constexpr, R: tl.constexpr, B: tl.constexpr):
    """Writes the activities of both hidden layers, from the standardised features."""
    f = net.features
    _upward(net, at.x, 0, f, net.weight0, f.to(tl.int64) * W, net.bias0, at.first, W, R, B)
    _upward(net, at.first, R * W, W, net.weight1, W * W, net.bias1, at.second, W, R, B)


@triton.jit
def output(net, at, cols, W: tl.constexpr, R: tl.constexpr, B: tl.constexpr):
    """Some columns of the members' mean output, [R, B]."""
    inside = cols < net.depth
    total = tl.zeros([R, B], tl.float32)
    for m in range(net.members):
        total += tl.load(net.bias2 + m * net.depth + cols, mask=inside, other=0.0)
        w = net.weight2 + m * (net.depth.to(tl.int64) * W)
        total = _times(at.second + m * (R * W), W, w, net.depth, cols, inside, total)
    return tl.div_rn(total, tl.full([R, B], 1.0, tl.float32) * net.members)


@triton.jit
def _downward(
    net,
    x_at,
    x_step,
    inner,
    w_at,
    w_step,
    active_at,
    W: tl.constexpr,
    SMOOTH: tl.constexpr,
    R: tl.constexpr,
    B: tl.constexpr,
):
    """Writes (wᵀ x) ∘ σ'(activities) of every member over these activities, with the rows of w that x needs."""
    for m in range(net.members):
        for j in range(0, W, B):
            cols = j + tl.arange(0, B)[None, :]
            total = tl.zeros([R, B], tl.float32)
            w = w_at + m * w_step
            total = _times(x_at + m * x_step, inner, w, W, cols, cols < W, total)
            active = tl.load(active_at + m * (R * W) + cols)
            if SMOOTH:
                total *= tl.minimum(active * (1 / RAMP), 1.0)
            else:
                total = tl.where(active > 0, total, 0.0)
            tl.store(active_at + m * (R * W) + cols, total)
    tl.debug_barrier()


@triton.jit
def backward(
    net,
    at,
    goal_at,
    outputs,
    valid,
    W: tl.constexpr,
    SMOOTH: tl.constexpr,
    R: tl.constexpr,
    B: tl.constexpr,
):
    """Writes ∇ ½‖G − goal‖² in the features over these, after `forward`; returns ‖G − goal‖, [R]."""
    # 1. Outputs beyond the goal's have no error.
    used = whole_lanes(outputs)
    squares = tl.zeros([R], tl.float64)
    for j in range(0, used, B):
        cols = j + tl.arange(0, B)[None, :]
        inside = valid[:, None] & (cols < outputs)
        goal = tl.load(goal_at + cols, mask=inside, other=0.0)
        error = tl.where(inside, output(net, at, cols, W, R, B) - goal, 0.0)
        squares += tl.sum(error.to(tl.float64) * error.to(tl.float64), 1)
        tl.store(at.error + cols, error * (1.0 / net.members), mask=cols < used)
    tl.debug_barrier()
    # 2. The error at every layer before its ReLU.
    d = net.depth.to(tl.int64) * W
    _downward(net, at.error, 0, used, net.back2, d, at.second, W, SMOOTH, R, B)
    _downward(net, at.second, R * W, W, net.back1, W * W, at.first, W, SMOOTH, R, B)
    # 3. In the features.
    for j in range(0, net.features, B):
        cols = j + tl.arange(0, B)[None, :]
        inside = cols < net.features
        total = tl.zeros([R, B], tl.float32)
        for m in range(net.members):
            w = net.back0 + m * (net.features.to(tl.int64) * W)
            total = _times(at.first + m * (R * W), W, w, net.features, cols, inside, total)
        scale = tl.load(net.inverse + cols, mask=inside, other=0.0)
        tl.store(at.x + cols, total * scale, mask=inside)
    tl.debug_barrier()
    return tl.sqrt(squares).to(tl.float32)


@triton.jit
def gradient(at, q_at, cols, k, valid, SMOOTH: tl.constexpr):
    """Some columns of the gradient in q, after `backward`."""
    inside = valid[:, None] & (cols < k)
    g = tl.load(at.x + cols, mask=inside, other=0.0)
    in_log = tl.load(at.x + k + cols, mask=inside, other=0.0)
    q = tl.load(q_at + cols, mask=inside, other=0.0).to(tl.float32)
    if SMOOTH:
        slope = q / (q * q + SMOOTHING * SMOOTHING)
    else:
        # Below their floor the logarithms are constant.
        slope = tl.where(q > LOG_FLOOR, 1.0 / tl.maximum(q, LOG_FLOOR), 0.0)
    return g + in_log * slope


@triton.jit
def finite_extent(x):
    """The largest magnitude, infinite where an entry is infinite or NaN; [R]."""
    return tl.max(tl.where(tl.abs(x) <= MOST_FLOAT32, tl.abs(x), float("inf")), 1)
