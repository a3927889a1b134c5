"""The compiled kernels against the float64 reference, one table; closeness here, guarantees in test_guarantees."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from distributions import DISTRIBUTIONS, directions, draw
from torch import Tensor

from mipoison.ops.library import CPP, REFERENCE
from mipoison.reference import label_of

SIZES = (2, 3, 10, 15, 16, 17, 63, 64, 65, 100, 1000, 10_000)
BALLS = (("l1", math.inf), ("l1", 0.2), ("l2", 0.1), ("linf", 0.03))
STEPS = {"short": 0.1, "huge": 1e6}
# One ulp at 1 for the 16-bit types; for float32 what MATH §4 promises; float64 carries the root
# searches' resolution.
TOLERANCE = {
    torch.float64: 1e-9,
    torch.float32: 5e-7,
    torch.float16: 2.0**-10,
    torch.bfloat16: 2.0**-7,
}


def both(operation: str, *args: Any) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """(compiled, reference) results."""
    return CPP[operation](*args), REFERENCE[operation](*args)


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
    difference = (ours.to(torch.float64) - theirs.to(torch.float64)).abs()
    assert difference.numel() == 0 or float(difference.max()) <= TOLERANCE[ours.dtype]


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("k", SIZES)
def test_step(k: int, distribution: str) -> None:
    for norm, epsilon in BALLS:
        for alpha in STEPS.values():
            # The reference's nested roots are slow on long rows and steps; rows do not know how many they are.
            slow = math.isfinite(epsilon) and (k > 100 or alpha > 1)
            n = (1 if k == 10_000 else 7) if slow else 128
            p, g = draw(distribution, n, k).float(), directions(n, k).float()
            theirs, _ = REFERENCE["step"](p, g, p, None, alpha, epsilon, norm, 0.0, False)
            for rows in {0, 1, min(7, n), n}:
                q = p[:rows]
                ours, status = CPP["step"](q, g[:rows], q, None, alpha, epsilon, norm, 0.0, False)
                assert int(status) == 0
                assert_close(ours, theirs[:rows])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("k", [2, 3, 10, 16, 33, 100])
def test_project(k: int, dtype: torch.dtype) -> None:
    for distribution in DISTRIBUTIONS:
        p, z = draw(distribution, 7, k).to(dtype), directions(7, k).to(dtype)
        for norm, epsilon in (*BALLS, ("l1", 0.0), ("l2", 0.0), ("linf", 0.0)):
            for margin in (0.0, 0.3, 1.0):
                args = (z, p, None, epsilon, norm, margin, True)
                (ours, status), (theirs, _) = both("project", *args)
                assert int(status) == 0
                assert_close(ours, theirs)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_project_onto_another_label(dtype: torch.dtype) -> None:
    for k in (2, 5, 40):
        p, z = draw("plain", 32, k).to(dtype), directions(32, k).to(dtype)
        t = (label_of(p) + 1) % k
        for norm, epsilon in (("l1", math.inf), ("l1", 0.8), ("l2", 0.5), ("linf", 0.4)):
            (ours, bad), (theirs, also_bad) = both("project", z, p, t, epsilon, norm, 0.1, False)
            assert int(bad) == int(also_bad)
            assert_close(ours, theirs)


def test_some_sets_above_are_empty() -> None:
    p, z = draw("plain", 32, 40), directions(32, 40)
    t = (label_of(p) + 1) % 40
    counts = [
        int(CPP["project"](z, p, t, epsilon, norm, 0.1, False)[1])
        for norm, epsilon in (("l1", 0.35), ("l2", 0.2), ("linf", 0.15))
    ]
    assert all(0 < count < 32 for count in counts)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("k", [2, 10, 65, 1000])
def test_move(k: int, dtype: torch.dtype) -> None:
    for distribution in DISTRIBUTIONS:
        p = draw(distribution, 7, k).to(dtype)
        target = REFERENCE["project"](
            draw("plain", 7, k, seed=3).to(dtype), None, label_of(p), math.inf, "l1", 0.0, False
        )[0]
        for epsilon in (0.0, 0.1, 1.0, math.inf):
            for norm, style in (
                ("l1", "straight"),
                ("l2", "straight"),
                ("linf", "straight"),
                ("l1", "waterfill"),
            ):
                (ours, status), (theirs, _) = both("move", p, target, epsilon, norm, style)
                assert int(status) == 0
                assert_close(ours, theirs)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("style", ["swap", "project"])
@pytest.mark.parametrize("k", [2, 10, 65, 1000])
def test_flip(k: int, style: str, dtype: torch.dtype) -> None:
    key = torch.tensor([1, 2**31, 2**32 - 1, 7])
    for distribution in DISTRIBUTIONS:
        p = draw(distribution, 64, k).to(dtype)
        for targets in (None, torch.arange(64) % (k + 1) - 1):
            for rate in (0.0, 0.4, 1.0):
                (ours, labels, status), (theirs, same, _) = both(
                    "flip", p, targets, rate, key, style
                )
                assert int(status) == 0
                assert torch.equal(labels, same)
                assert_close(ours, theirs)


@pytest.mark.parametrize("grid", [0.0, 0.1, 0.25])
def test_row_bits_are_the_same_bits(grid: float) -> None:
    for dtype in TOLERANCE:
        p = draw("plain", 30_000, 10).to(dtype)
        ours, theirs = both("row_bits", p, torch.tensor([3, 5, 8, 2**32 - 1]), 2**32 - 1, grid, 7)
        assert torch.equal(ours, theirs)
        assert int(ours.min()) >= 0 and int(ours.max()) < 2**32


def test_invalid_rows_get_the_same_safe_answers() -> None:
    p = draw("plain", 8, 6).float()
    p[1, 2] = math.nan
    p[3, 0] = -0.1
    p[5] *= 1.5
    z = directions(8, 6).float()
    z[6, 1] = math.inf
    t = torch.tensor([0, 1, 2, 3, 4, 5, 0, 6])
    target = p.roll(1, 1)
    for operation, *args in (
        ("project", z, p, t, 0.9, "l1", 0.0, False),
        ("project", z, None, t, math.inf, "l1", 0.0, False),
        ("step", p, z, p, t, 0.1, math.inf, "l1", 0.0, False),
        ("step", p, z, None, None, 0.1, math.inf, "l1", 0.0, False),
        ("move", p, target, 0.1, "l1", "straight"),
    ):
        (ours, status), (theirs, count) = both(operation, *args)
        assert int(status) == int(count) > 0
        assert torch.isfinite(ours).all()
        assert_close(ours, theirs)
    (ours, labels, status), (theirs, same, count) = both(
        "flip", p, t - 1, 1.0, torch.tensor([1, 2, 3, 4]), "swap"
    )
    assert int(status) == int(count) == 3 and torch.equal(labels, same)
    assert_close(ours, theirs)
