"""Argmin ‖q − z‖² over C(p, t, ε, m), and the fused step: the kernel and its launch.

The balls are in `l1.py`, `l2.py` and `linf.py`.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from mipoison.kernels.launch import Shape, float32_shape, float64_shape, in_columns, outputs
from mipoison.kernels.project_float32 import project_float32
from mipoison.kernels.project_float64 import project_float64
from mipoison.kernels.roots import any_of
from mipoison.kernels.rows import begin_count, count_refused, rows_of_program
from torch import Tensor

from mipoison.reference.project import radius
from mipoison.reference.rounding import SUM_TOLERANCE


# The number of rows is not compiled in: one kernel serves every batch size.
@triton.jit(do_not_specialize=["n"])
def project_kernel(
    q,
    g,
    p,
    t,
    out,
    status,
    n,
    k,
    q_stride,
    g_stride,
    p_stride,
    t_stride,
    out_stride,
    alpha: tl.float64,
    epsilon: tl.float64,
    margin: tl.float64,
    TOLERANCE: tl.constexpr,
    NORM: tl.constexpr,
    SHRINK: tl.constexpr,
    SAME: tl.constexpr,
    TRY_FLOAT32: tl.constexpr,
    R: tl.constexpr,
    B: tl.constexpr,
    C: tl.constexpr,
    CHUNKS: tl.constexpr,
):
    """R rows a program; g is None for `project`, p and t where not given."""
    begin_count(status)
    row, ok = rows_of_program(n, R)
    cols = tl.arange(0, B)[None, :]
    q_at = q + (row * q_stride)[:, None]
    g_at, p_at, t_at = None, None, None
    if g is not None:
        g_at = g + (row * g_stride)[:, None]
    if p is not None:
        p_at = p + (row * p_stride)[:, None]
    if t is not None:
        t_at = t + row * t_stride
    out_at = out + (row * out_stride)[:, None]
    # The interpreter passes Python floats, which operations would round to float32.
    alpha = tl.full([R], alpha, tl.float64)
    epsilon = tl.full([R], epsilon, tl.float64)
    margin = tl.full([R], margin, tl.float64)
    left = ok
    if TRY_FLOAT32:
        served = project_float32(
            q_at, g_at, p_at, t_at, out_at, cols, k, ok, alpha, margin, TOLERANCE, SHRINK, SAME
        )
        left = ok & ~served
    if any_of(left):
        refused = project_float64(
            q_at,
            g_at,
            p_at,
            t_at,
            out_at,
            tl.arange(0, C)[None, :],
            k,
            left,
            alpha,
            epsilon,
            margin,
            TOLERANCE,
            NORM,
            SHRINK,
            CHUNKS,
        )
        count_refused(status, refused)


def plan(k: int, dtype: torch.dtype, norm: str) -> tuple[Shape, bool]:
    """The launch's shape, and whether float32 is tried first; norm "none" for no ball."""
    shape = float32_shape(k) if norm == "none" and dtype != torch.float64 else None
    return shape or float64_shape(k, norm), shape is not None


def _launch(
    q: Tensor,
    g: Tensor | None,
    p: Tensor | None,
    t: Tensor | None,
    alpha: float,
    epsilon: float | None,
    norm: str,
    margin: float,
    shrink: bool,
    out: Tensor | None,
) -> tuple[Tensor, Tensor]:
    q, g, p = in_columns(q), in_columns(g), in_columns(p)
    # By address: the dispatcher may pass one tensor as two objects.
    same = p is not None and p.data_ptr() == q.data_ptr() and p.stride() == q.stride()
    n, k = q.shape
    ball = radius(epsilon)
    norm = norm if p is not None and not math.isinf(ball) else "none"
    shape, try_float32 = plan(k, q.dtype, norm)
    result, status = outputs(q, out, shape)
    if n > 0:
        project_kernel[shape.grid(n)](
            q,
            g,
            p,
            t,
            result,
            status,
            n,
            k,
            q.stride(0),
            0 if g is None else g.stride(0),
            0 if p is None else p.stride(0),
            0 if t is None else t.stride(0),
            result.stride(0),
            alpha,
            ball,
            margin,
            TOLERANCE=SUM_TOLERANCE[q.dtype],
            NORM=norm,
            SHRINK=shrink,
            SAME=same,
            TRY_FLOAT32=try_float32,
            **shape.constants(),
            **shape.options(),
        )
    return result, status


def project(
    z: Tensor,
    p: Tensor | None,
    t: Tensor | None,
    epsilon: float | None,
    norm: str,
    margin: float,
    shrink: bool,
    out: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Projects the rows of z; returns the rows and the number of invalid ones."""
    return _launch(z, None, p, t, 0.0, epsilon, norm, margin, shrink, out)


def step(
    q: Tensor,
    g: Tensor,
    p: Tensor | None,
    t: Tensor | None,
    alpha: float,
    epsilon: float | None,
    norm: str,
    margin: float,
    shrink: bool,
    out: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Projects the rows of q + α·g/‖g‖₂; returns the rows and the number of invalid ones."""
    return _launch(q, g, p, t, alpha, epsilon, norm, margin, shrink, out)
