"""The exact projection onto C(p, t, ε, m), all norms, and its derivative: the oracle of every kernel."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

from mipoison.reference.derivative import tangent
from mipoison.reference.l1 import l1_interval, project_l1_bound, project_l1_free
from mipoison.reference.l2 import project_l2_bound
from mipoison.reference.linf import linf_interval, project_linf_bound, project_linf_free
from mipoison.reference.roots import SLACK
from mipoison.reference.rounding import (
    at,
    finish,
    finite_rows,
    label_of,
    near_rows,
    put,
    renormalise,
    row_margin,
    safe_answer,
    valid_rows,
)
from mipoison.reference.rows import on_rows
from mipoison.reference.simplex import project_simplex

ORDERS: Final[dict[str, float]] = {"l1": 1.0, "l2": 2.0, "linf": math.inf}


def radius(epsilon: float | None) -> float:
    """ε as a number, infinite for no ball."""
    return math.inf if epsilon is None else epsilon


def _ball(epsilon: float | None, p: Tensor | None) -> float:
    """The radius of the ball around p: infinite without a center."""
    return math.inf if p is None else radius(epsilon)


def distance(q: Tensor, p: Tensor, norm: str) -> Tensor:
    """‖q − p‖ per row."""
    length: Tensor = torch.linalg.vector_norm(q - p, ORDERS[norm], dim=-1)
    return length


def feasible_rows(p: Tensor, t: Tensor, m: Tensor, epsilon: float, norm: str) -> Tensor:
    """Rows whose set C(p, t, ε, m) is not empty; bool [N]."""
    if norm == "l1":
        low, high = l1_interval(p, t, m, epsilon)
    elif norm == "linf":
        low, high = linf_interval(p, t, m, epsilon)
    else:
        return distance(project_simplex(p, t, m), p, "l2") <= epsilon + SLACK
    return low <= high + SLACK


def solve(
    z: Tensor, p: Tensor, t: Tensor, m: Tensor, epsilon: float, norm: str
) -> tuple[Tensor, Tensor]:
    """Argmin ‖q − z‖² over C(p, t, ε, m), in float64, for rows known to be feasible.

    1. Without the ball. If that lands inside it, done.
    2. With the ball. l1, l∞: without the label first; if the label holds, done.
    3. Both bind: one outer root, in u = q_t (l1, l∞) or in the slide s from p to z (l2).

    Returns:
        q [N, K] and the slide s [N] (1 unless the l2 ball is active).
    """
    q, s = project_simplex(z, t, m), torch.ones_like(m)
    if math.isinf(epsilon):
        return q, s
    outside = distance(q, p, norm) > epsilon
    if norm == "l2":

        def slide(z: Tensor, p: Tensor, t: Tensor, m: Tensor) -> tuple[Tensor, Tensor]:
            return project_l2_bound(z, p, t, m, epsilon)

        return on_rows(outside, (q, s), slide, z, p, t, m)
    free = {"l1": project_l1_free, "linf": project_linf_free}[norm]
    bound = {"l1": project_l1_bound, "linf": project_linf_bound}[norm]

    def inside(z: Tensor, p: Tensor) -> tuple[Tensor]:
        return (free(z, p, epsilon),)

    def with_label(z: Tensor, p: Tensor, t: Tensor, m: Tensor) -> tuple[Tensor]:
        return (bound(z, p, t, m, epsilon),)

    (q,) = on_rows(outside, (q,), inside, z, p)
    broken = outside & (at(q, t) < put(q, t, -torch.inf).amax(-1) + m)
    (q,) = on_rows(broken, (q,), with_label, z, p, t, m)
    return q, s


def prepare(
    z: Tensor,
    p: Tensor | None,
    t: Tensor | None,
    epsilon: float | None,
    norm: str,
    margin: float,
    shrink: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The arguments of `solve` in float64, invalid rows replaced by harmless ones: (z, p, t, m, valid)."""
    if norm not in ORDERS:
        raise ValueError(f"expected norm to be l1, l2 or linf, got {norm}")
    source, ball = z if p is None else p, _ball(epsilon, p)
    label = label_of(source) if t is None else t
    known = (label >= 0) & (label < z.shape[-1])
    valid = near_rows(z) & known & (finite_rows(source) if p is None else valid_rows(source))
    label = torch.where(known, label, 0)
    center = torch.zeros_like(z, dtype=torch.float64) if p is None else renormalise(p, valid)
    m = row_margin(center, label, margin, shrink)
    if not math.isinf(ball):
        (full,) = on_rows(
            valid,
            (valid,),
            lambda p, t, m: (feasible_rows(p, t, m, ball, norm),),
            center,
            label,
            m,
        )
        valid = valid & full
    point = torch.where(valid.unsqueeze(-1), z.to(torch.float64), 0.0)
    return point, center, label, m, valid


def project(
    z: Tensor,
    p: Tensor | None,
    t: Tensor | None,
    epsilon: float | None,
    norm: str,
    margin: float,
    shrink: bool,
    dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:
    """Argmin ‖q − z‖² over C(p, t, ε, m): the projection that every other operation ends in.

    Shapes and meanings as in `mipoison.project`; z may be wider (float64) than p, dtype is the
    output's.

    Returns:
        q [N, K] in the dtype (of z by default), and the mask of valid rows [N].
    """
    dtype = dtype or z.dtype
    source, ball = z if p is None else p, _ball(epsilon, p)
    point, center, label, m, valid = prepare(z, p, t, epsilon, norm, margin, shrink)
    (q,) = on_rows(
        valid,
        (safe_answer(source, label_of(source) if t is None else t, dtype),),
        lambda z, p, t, m: (finish(solve(z, p, t, m, ball, norm)[0], t, m, dtype),),
        point,
        center,
        label,
        m,
    )
    return q, valid


def project_vjp(
    v: Tensor,
    z: Tensor,
    p: Tensor | None,
    t: Tensor | None,
    epsilon: float | None,
    norm: str,
    margin: float,
    shrink: bool,
) -> Tensor:
    """Jᵀv = Jv of `project` with respect to z; zero on invalid rows. Solves again in float64, for exact active sets."""
    ball = _ball(epsilon, p)

    def pull(v: Tensor, z: Tensor, p: Tensor, t: Tensor, m: Tensor) -> tuple[Tensor]:
        q, s = solve(z, p, t, m, ball, norm)
        kind = "none" if math.isinf(ball) else norm
        return (s.unsqueeze(-1) * tangent(v, q, p, t, m, ball, kind),)

    point, center, label, m, valid = prepare(z, p, t, epsilon, norm, margin, shrink)
    v64 = v.to(torch.float64)
    (result,) = on_rows(valid, (torch.zeros_like(v64),), pull, v64, point, center, label, m)
    return result.to(v.dtype)
