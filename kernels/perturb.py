"""11. Projected steps along the gradient of small networks: two kernels a step.

`aim_kernel` evaluates the networks on R rows a program, `advance_kernel` projects with the rows spread as in `project`.
In one kernel for all steps the two would spill, and each l1 projection, which is a warp's work, would hold up the warps
that the networks need. Between the kernels directions, labels and refusals lie in scratch memory, and nothing waits for
the GPU.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from mipoison.kernels.advance import advance_kernel
from mipoison.kernels.aim import aim_kernel
from mipoison.kernels.launch import Shape, in_columns, network_shape, outputs
from mipoison.kernels.network import lanes_of, scratch_of
from mipoison.kernels.project import plan, project
from torch import Tensor

from mipoison.reference.project import radius
from mipoison.reference.rounding import SUM_TOLERANCE, valid_rows


def advance_plan(k: int, dtype: torch.dtype, norm: str) -> tuple[Shape, bool]:
    """That of `project`; in the l1 ball with two threads for one, where a row has more than a warp's already."""
    shape, try_float32 = plan(k, dtype, norm)
    if norm == "l1" and 1 < shape.warps < 8:
        shape = replace(shape, warps=2 * shape.warps)
    return shape, try_float32


def perturb(
    p: Tensor,
    goal: Tensor,
    network: Tensor,
    members: int,
    width: int,
    center: Tensor | None,
    near: Tensor | None,
    steps: int,
    alpha: float,
    epsilon: float | None,
    norm: str,
    margin: float,
    shrink: bool,
    smooth: bool,
    out: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Steps from p against ∇ ½‖G(q) − goal‖²; returns the rows and the number of invalid ones.

    Raises:
        ValueError: where there is no step, or the networks are none.
    """
    if steps < 1:
        raise ValueError(f"expected at least one step, got {steps}")
    n, k = p.shape
    wanted = goal.shape[1]
    lanes, shape = lanes_of(network, k, members, width, wanted), network_shape(k, width)
    p, goal, center = in_columns(p), in_columns(goal), in_columns(p if center is None else center)
    network, near = network.contiguous(), None if near is None else near.contiguous()
    ball = radius(epsilon)
    norm = "none" if math.isinf(ball) else norm
    inner, try_float32 = advance_plan(k, p.dtype, norm)
    result, status = outputs(p, out, inner)
    if n == 0:
        return result, status
    if near is not None:
        # A part of a step keeps what both of its ends keep. (An invalid start is refused below.)
        start, _ = project(p, center, None, epsilon, norm, margin, shrink)
        p = torch.where(valid_rows(p).unsqueeze(1), start, p)
    scratch = scratch_of(p, shape, members, width, lanes)
    moved, along, stepped = p.new_empty((3, n, k))
    labels, refusals = p.new_empty((2, n), dtype=torch.int32)
    shares = scratch.new_empty((n,))
    for turn in range(steps):
        first, last = turn == 0, turn == steps - 1
        q, to = p if first else moved, result if last else moved
        aim_kernel[shape.grid(n)](
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
            q.stride(0),
            goal.stride(0),
            center.stride(0),
            TOLERANCE=SUM_TOLERANCE[p.dtype],
            FIRST=first,
            SMOOTH=smooth,
            W=width,
            **shape.constants(),
            **shape.options(),
        )
        advance_kernel[inner.grid(n)](
            q,
            along,
            center,
            labels,
            refusals,
            shares,
            stepped,
            to,
            status,
            n,
            k,
            q.stride(0),
            center.stride(0),
            to.stride(0),
            alpha,
            ball,
            margin,
            TOLERANCE=SUM_TOLERANCE[p.dtype],
            NORM=norm,
            SHRINK=shrink,
            LAST=last,
            TRY_FLOAT32=try_float32,
            **inner.constants(),
            **inner.options(),
        )
    return result, status
