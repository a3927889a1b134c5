"""Rounding to decimals: exact sums, the nearest grid point, the label ahead, and the ball."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from distributions import DISTRIBUTIONS, directions, draw
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import mipoison as mp
from mipoison.defenses.decimals import bounded, decimal_counts, farthest
from mipoison.reference import label_of

ORDER = {"l1": 1, "l2": 2, "linf": math.inf}
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def rounded(q: Tensor, decimals: int) -> Tensor:
    """Counts without a ball."""
    return decimal_counts(q, q, decimals, None, "l1", True)


def entries(counts: Tensor, decimals: int) -> Tensor:
    return counts.double() / 10**decimals


def length(x: Tensor, norm: str) -> Tensor:
    return torch.linalg.vector_norm(x.double(), ORDER[norm], dim=-1)


def unit_rows(p: Tensor) -> Tensor:
    return p.double() / p.double().sum(1, keepdim=True)


def lead(counts: Tensor, label: Tensor) -> Tensor:
    """By how many units the label leads; [N]."""
    own = counts.gather(1, label[:, None]).squeeze(1)
    return own - counts.scatter(1, label[:, None], -1).amax(1)


def assert_contract(counts: Tensor, label: Tensor, decimals: int) -> None:
    assert counts.dtype == torch.int64 and int(counts.min()) >= 0
    assert bool((counts.sum(1) == 10**decimals).all())
    assert bool((lead(counts, label) >= 1).all())


# The nearest grid point, against all of them.


def grid(k: int, units: int) -> Tensor:
    """Every vector of k counts with the sum `units`."""
    return torch.tensor(
        [c for c in itertools.product(range(units + 1), repeat=k) if sum(c) == units]
    )


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("k", [2, 3, 4, 5])
def test_no_grid_point_is_nearer(k: int, distribution: str) -> None:
    q, points = draw(distribution, 40, k, seed=2), grid(k, 10)
    label, found = label_of(q), rounded(q, 1)
    assert_contract(found, label, 1)
    own = points[:, label].T
    rivals = torch.stack([points.scatter(1, t.expand(len(points), 1), -1).amax(1) for t in label])
    for norm in ORDER:
        error = length(entries(found, 1) - q, norm)
        errors = length(entries(points, 1) - q[:, None], norm)
        nearest = errors.amin(1)
        # Where the label is strict in every nearest point of all, it is one of them.
        strict = ((own > rivals) | (errors > nearest[:, None] + 1e-12)).all(1)
        assert bool((error <= nearest + 1e-12)[strict].all())
        # Else the nearest one in which the label has the unit that it needs.
        most = found.gather(1, label[:, None])
        raised = (own >= most) & (own > rivals)
        assert bool((error <= torch.where(raised, errors, math.inf).amin(1) + 1e-12).all())
        assert float(error.max()) <= farthest(k, 1, norm) + 1e-12


def largest_remainder(q: list[float], decimals: int, label: int) -> list[int]:
    """Steps 1 and 2 for one row, entry by entry."""
    shares = [x * 10**decimals for x in q]
    counts = [math.floor(x) for x in shares]
    order = sorted(range(len(q)), key=lambda j: (counts[j] - shares[j], j != label, j))
    for j in order[: 10**decimals - sum(counts)]:
        counts[j] += 1
    if counts[label] == max(c for j, c in enumerate(counts) if j != label):
        others = [j for j in range(len(q)) if j != label and counts[j] > 0]
        counts[max(others, key=lambda j: (counts[j] - shares[j], j))] -= 1
        counts[label] += 1
    return counts


@pytest.mark.parametrize("decimals", [1, 2, 3])
def test_counts_are_those_of_the_textbook(decimals: int) -> None:
    """Entries with binary denominators: no remainder depends on rounding."""
    for k in (2, 3, 8):
        parts = torch.randint(0, 20, (200, k), generator=torch.Generator().manual_seed(k))
        parts[:, 0] += 64 - parts.sum(1)
        q = parts[parts[:, 0] >= 0].double() / 64
        expected = [
            largest_remainder(row, decimals, int(t))
            for row, t in zip(q.tolist(), label_of(q), strict=True)
        ]
        assert rounded(q, decimals).tolist() == expected


def test_ties_are_broken_as_labels_are() -> None:
    rows = [[0.25] * 4, [0.3, 0.35, 0.35], [1 / 3] * 3, [0.05, 0.45, 0.05, 0.45]]
    found = [rounded(torch.tensor([row], dtype=torch.float64), 1).tolist()[0] for row in rows]
    # (The label is the first of the largest entries. A unit for it comes from the last of those that were raised.)
    assert found == [[4, 2, 2, 2], [3, 4, 3], [4, 3, 3], [1, 5, 0, 4]]


# Labels.


@pytest.mark.parametrize("decimals", [3, 4, 6, 9])
def test_nearly_flat_rows_of_a_thousand_classes(decimals: int) -> None:
    generator = torch.Generator().manual_seed(0)
    flat = 1e-3 + 1e-9 * torch.rand(50, 1000, generator=generator, dtype=torch.float64)
    rows = torch.cat([flat, torch.full((1, 1000), 1e-3).double(), draw("ties", 20, 1000)])
    for q in (rows, rows.float()):
        counts = rounded(q, decimals)
        assert_contract(counts, label_of(q), decimals)
        assert (
            float(length(entries(counts, decimals) - unit_rows(q), "linf").max()) < 2 / 10**decimals
        )


def test_fewer_units_than_classes() -> None:
    for distribution in DISTRIBUTIONS:
        q = draw(distribution, 20, 300)
        for decimals in (1, 2):
            assert_contract(rounded(q, decimals), label_of(q), decimals)


def test_leads_of_whole_units_are_kept() -> None:
    q = torch.cat([draw(d, 200, 10, seed=3) for d in DISTRIBUTIONS])
    label = label_of(q)
    for decimals in (1, 2, 3, 4):
        fine = (q * 10**decimals).gather(1, label[:, None]).squeeze(1)
        ahead = fine - (q * 10**decimals).scatter(1, label[:, None], -1.0).amax(1)
        assert bool((lead(rounded(q, decimals), label) >= (ahead - 1e-9).floor()).all())


def test_zeros_stay_zeros() -> None:
    q = torch.cat([draw(d, 100, 12, seed=3) for d in ("zeros", "one-hot")]).float()
    assert bool((q == 0).any()) and not bool(rounded(q, 4)[q == 0].any())


# The ball.


@settings(max_examples=200, deadline=None)
@given(
    distribution=st.sampled_from(DISTRIBUTIONS),
    k=st.integers(2, 60),
    seed=st.integers(0, 10_000),
    norm=st.sampled_from(sorted(ORDER)),
    # Of what rounding needs at most.
    room=st.one_of(st.just(1.0), st.floats(1.0, 30.0)),
    decimals=st.integers(1, 9),
    dtype=st.sampled_from(DTYPES),
)
def test_contract_of_a_row_in_its_ball(
    distribution: str,
    k: int,
    seed: int,
    norm: str,
    room: float,
    decimals: int,
    dtype: torch.dtype,
) -> None:
    epsilon = room * farthest(k, decimals, norm)
    p = draw(distribution, 6, k, seed).to(dtype)
    g = directions(6, k, seed).to(dtype)
    q = mp.step(p, g, center=p, alpha=9.0, epsilon=epsilon, norm=norm, shrink=True)
    counts = decimal_counts(q, p, decimals, bounded(epsilon, norm), norm, True)
    assert_contract(counts, label_of(p), decimals)
    moved = length(entries(counts, decimals) - unit_rows(p), norm)
    assert float(moved.max()) <= epsilon + 2e-7


@pytest.mark.parametrize("norm", ORDER)
def test_rows_at_the_border_of_the_ball_stay_near_it(norm: str) -> None:
    p, g = draw("plain", 200, 100, seed=1), directions(200, 100, seed=2)
    # Rounding takes about a half of the room.
    epsilon = 2 * farthest(100, 3, norm)
    q = mp.step(p, g, center=p, alpha=9.0, epsilon=epsilon, norm=norm, shrink=True)
    free = rounded(q, 3)
    out = length(entries(free, 3) - p, norm) > epsilon + 2e-7
    assert int(out.sum()) > 20
    counts = decimal_counts(q, p, 3, epsilon, norm, True)
    assert_contract(counts, label_of(p), 3)
    assert float(length(entries(counts, 3) - p, norm).max()) <= epsilon + 2e-7
    assert torch.equal(counts[~out], free[~out])
    # Not moved back to p, which would leave them undefended.
    assert float(length(entries(counts, 3) - p, norm)[out].mean()) > 0.75 * epsilon


def test_a_label_of_another_defense_yields_to_the_ball() -> None:
    """Where a defense changes labels within a ball, the answer may take the label of p, and stays in the ball."""
    p = torch.tensor([[0.52, 0.48, 0.0]], dtype=torch.float64)
    q = torch.tensor([[0.45, 0.55, 0.0]], dtype=torch.float64)
    kept = decimal_counts(q, p, 3, 0.1, "l1", False)
    assert_contract(kept, label_of(q), 3)
    counts = decimal_counts(q, p, 3, 0.02, "l1", False)
    assert counts.tolist() == [[511, 489, 0]]


# Batches.


@pytest.mark.parametrize("norm", ORDER)
@pytest.mark.parametrize("dtype", DTYPES)
def test_batch_invariance(dtype: torch.dtype, norm: str) -> None:
    k = 37
    p = torch.cat([draw(d, 20, k, seed=4) for d in DISTRIBUTIONS]).to(dtype)
    epsilon = 1.3 * farthest(k, 3, norm)
    g = directions(len(p), k).to(dtype)
    q = mp.step(p, g, center=p, alpha=9.0, epsilon=epsilon, norm=norm, shrink=True)

    def counts(rows: Tensor | slice) -> Tensor:
        return decimal_counts(q[rows], p[rows], 3, epsilon, norm, True)

    whole, order = counts(slice(None)), torch.randperm(len(p))
    for threads in (1, 2):
        torch.set_num_threads(threads)
        assert torch.equal(counts(order), whole[order])
    for start, stop in ((0, 1), (17, 18), (100, 101), (3, 40)):
        assert torch.equal(counts(slice(start, stop)), whole[start:stop])


def test_no_rows() -> None:
    assert rounded(torch.empty(0, 5), 4).shape == (0, 5)
