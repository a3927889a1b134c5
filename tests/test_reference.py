"""The reference against an independent solver, and its derivative against finite differences."""

from __future__ import annotations

import math

import cvxpy as cp
import numpy as np
import pytest
import torch
from distributions import DISTRIBUTIONS, directions, draw
from later import fewer, later
from torch import Tensor

from mipoison import reference
from mipoison.reference.rounding import at, label_of, put

ORDER = {"l1": 1, "l2": 2, "linf": "inf"}


def solve_independently(
    z: Tensor, p: Tensor, t: Tensor, m: Tensor, epsilon: float, norm: str
) -> np.ndarray:
    """The same problem by an interior-point method, one row at a time."""
    rows = []
    for z_row, p_row, label, margin in zip(
        z.numpy(), p.numpy(), t.tolist(), m.tolist(), strict=True
    ):
        q = cp.Variable(len(z_row))
        others = [j for j in range(len(z_row)) if j != label]
        constraints = [cp.sum(q) == 1, q >= 0, q[label] >= q[others] + margin]
        if math.isfinite(epsilon):
            constraints.append(cp.norm(q - p_row, ORDER[norm]) <= epsilon)
        problem = cp.Problem(cp.Minimize(cp.sum_squares(q - z_row)), constraints)
        problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-9, tol_gap_rel=1e-9, tol_feas=1e-9)
        rows.append(q.value)
    return np.stack(rows)


def cases(k: int, n: int, margin: float, other_label: bool) -> tuple[Tensor, ...]:
    """Rows of every distribution with steps long and short; m is shrunk so that no set is empty."""
    p = torch.cat([draw(d, n, k, seed=i) for i, d in enumerate(DISTRIBUTIONS)])
    length = torch.logspace(-2, 1, len(p), dtype=torch.float64).unsqueeze(1)
    z = p + length * directions(len(p), k)
    t = (label_of(p) + 1) % k if other_label else label_of(p)
    gap = at(p, t) - put(p, t, -math.inf).amax(-1)
    m = torch.full_like(gap, margin) if other_label else torch.minimum(gap, torch.tensor(margin))
    return z, p, t, m


@pytest.mark.parametrize(
    ("norm", "epsilon"),
    [
        ("l1", math.inf),
        ("l1", 0.2),
        ("l1", 0.0),
        ("l2", 0.1),
        ("l2", 0.0),
        ("linf", 0.05),
        ("linf", 0.0),
    ],
)
@pytest.mark.parametrize("k", [2, 7, *later(3, 20)])
def test_agrees_with_an_interior_point_solver(norm: str, epsilon: float, k: int) -> None:
    for margin in (0.0, 0.15):
        z, p, t, m = cases(k, 3, margin, other_label=False)
        q, _ = reference.solve(z, p, t, m, epsilon, norm)
        other = solve_independently(z, p, t, m, epsilon, norm)
        # The interior point is good to about 1e-6; where they differ more, ours must not be the
        # worse one.
        assert np.abs(q.numpy() - other).max() < 2e-5
        ours = (q - z).square().sum(1).numpy()
        theirs = np.square(other - z.numpy()).sum(1)
        assert (ours <= theirs * (1 + 1e-7) + 1e-7).all()


@pytest.mark.parametrize(("norm", "epsilon"), [("l1", 1.4), ("l2", 0.9), ("linf", 0.7)])
def test_agrees_where_another_label_must_win(norm: str, epsilon: float) -> None:
    z, p, t, m = cases(6, 8, 0.05, other_label=True)
    keep = reference.feasible_rows(p, t, m, epsilon, norm)
    assert 0.3 < keep.double().mean() <= 1
    z, p, t, m = (x[keep] for x in (z, p, t, m))
    q, _ = reference.solve(z, p, t, m, epsilon, norm)
    assert np.abs(q.numpy() - solve_independently(z, p, t, m, epsilon, norm)).max() < 2e-5


@pytest.mark.parametrize(("norm", "epsilon"), [("l1", 0.5), ("l2", 0.3), ("linf", 0.2)])
def test_feasibility_agrees_with_the_solver(norm: str, epsilon: float) -> None:
    _, p, t, m = cases(5, 4, 0.1, other_label=True)
    ours = reference.feasible_rows(p, t, m, epsilon, norm).tolist()
    nearest = []
    for p_row, label in zip(p.numpy(), t.tolist(), strict=True):
        q = cp.Variable(5)
        others = [j for j in range(5) if j != label]
        constraints = [cp.sum(q) == 1, q >= 0, q[label] >= q[others] + 0.1]
        distance = cp.Problem(cp.Minimize(cp.norm(q - p_row, ORDER[norm])), constraints)
        nearest.append(distance.solve(solver=cp.CLARABEL))
    assert any(ours) and not all(ours)
    assert [distance <= epsilon for distance in nearest] == ours


@pytest.mark.parametrize(
    ("norm", "epsilon"), [("l1", math.inf), ("l1", 0.3), ("l2", 0.2), ("linf", 0.1)]
)
@pytest.mark.parametrize("margin", [*later(0.0), 0.2])
def test_derivative_agrees_with_finite_differences(
    norm: str, epsilon: float, margin: float
) -> None:
    n = fewer(3, 5)
    p = draw("plain", n, 5)
    z = (p + 0.4 * directions(n, 5)).requires_grad_()

    def project(z: Tensor) -> Tensor:
        out: Tensor = torch.ops.mipoison.project(z, p, None, epsilon, norm, margin, True)[0]
        return out

    assert torch.autograd.gradcheck(project, z, eps=1e-7, atol=1e-5)


@pytest.mark.parametrize(("norm", "epsilon"), [("l1", 0.3), ("l2", 0.2), ("linf", 0.1)])
def test_large_points_keep_their_digits(norm: str, epsilon: float) -> None:
    n = fewer(6, 16)
    p = draw("plain", n, 9)
    z = p + 1e9 * directions(n, 9)
    q, valid = reference.project(z, p, None, epsilon, norm, 0.0, False)
    assert valid.all()
    assert (q.sum(1) - 1).abs().max() < 1e-12
    # Far away, projecting is maximising ⟨z, q⟩ over the set: no vertex may do better.
    scaled, _ = reference.project(z * 8, p, None, epsilon, norm, 0.0, False)
    assert (q - scaled).abs().max() < 1e-6
