"""The sparse move replaces the entries that differ least, and leaves the others."""

from __future__ import annotations

import pytest
import torch
from distributions import draw, relabelled
from torch import Tensor

import mipoison as mp
from mipoison.reference import label_of
from mipoison.reference.move import smallest_first

K = 12


def pairs(distribution: str, n: int = 200) -> tuple[Tensor, Tensor]:
    """Rows and targets of the same labels, float64 [N, K]."""
    p = draw(distribution, n, K)
    v = relabelled(draw("plain", n, K, seed=5), label_of(p))
    same = label_of(v) == label_of(p)
    return p[same], v[same]


def greedy(p: list[float], v: list[float], epsilon: float) -> list[float]:
    """The move by its definition: each side takes the smallest changes, one after the other."""
    q = list(p)
    for sign in (1, -1):
        left = epsilon / 2
        side = [j for j in range(len(p)) if sign * (v[j] - p[j]) > 0]
        for j in sorted(side, key=lambda j: abs(v[j] - p[j])):
            change = min(abs(v[j] - p[j]), left)
            q[j] += sign * change
            left -= change
    return q


@pytest.mark.parametrize("epsilon", [0.003, 0.05, 0.3])
@pytest.mark.parametrize("distribution", ["plain", "peaked"])
def test_takes_the_smallest_changes_first(distribution: str, epsilon: float) -> None:
    p, v = pairs(distribution)
    wanted = torch.tensor(
        [greedy(a, b, epsilon) for a, b in zip(p.tolist(), v.tolist(), strict=True)]
    )
    kept = wanted.argmax(1) == label_of(p)
    assert kept.sum() > 100
    q = mp.move(p, v, epsilon=epsilon, style="sparse")
    assert torch.allclose(q[kept], wanted[kept].double(), atol=1e-7, rtol=0)


def test_makes_more_entries_those_of_the_target_than_water_filling() -> None:
    p, v = pairs("plain")
    sparse, filled = (mp.move(p, v, epsilon=0.1, style=s) for s in ("sparse", "waterfill"))
    there = [(q - v).abs().lt(1e-12).sum(1) for q in (sparse, filled)]
    assert bool((there[0] >= there[1]).all())
    assert int(there[0].sum()) > 1.2 * int(there[1].sum())
    # One entry of each side may be half-way; rows whose label would be lost are water-filled.
    changed = (sparse - p).abs().gt(1e-12).sum(1)
    stays = (sparse - filled).abs().amax(1) > 1e-12
    assert int(stays.sum()) > 100 and bool((changed <= there[0] + 2)[stays].all())


def test_where_the_label_would_be_lost_water_is_filled() -> None:
    # The target's second entry is larger than the label's of p, and differs less.
    p = torch.tensor([[0.36, 0.34, 0.3, 0.0], [0.5, 0.3, 0.1, 0.1]], dtype=torch.float64)
    v = torch.tensor([[0.5, 0.4, 0.05, 0.05], [0.6, 0.35, 0.04, 0.01]], dtype=torch.float64)
    q = mp.move(p, v, epsilon=0.2, style="sparse")
    filled = mp.move(p, v, epsilon=0.2, style="waterfill")
    assert torch.equal(q[0], filled[0]) and not torch.equal(q[1], filled[1])
    assert label_of(q).tolist() == [0, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("k", [3, 40, 400])
def test_equal_changes_share_what_is_left(k: int, dtype: torch.dtype) -> None:
    """Which of them comes first would be the order of the classes, or rounding."""
    p = torch.full((5, k), 0.5 / (k - 1), dtype=dtype)
    p[:, 0] = 0.5
    v = torch.full((5, k), 0.1 / (k - 1), dtype=dtype)
    v[:, 0] = 0.9
    for q in (mp.move(p, v, epsilon=0.2, style="sparse", backend=b) for b in ("cpp", "reference")):
        rest = q[:, 1:].double()
        assert float(rest.amax() - rest.amin()) <= 1e-7
        assert float((q - p).double().abs().sum(1).amax()) <= 0.2 + 2e-7
        assert float((rest.sum(1) - 0.4).abs().max()) <= 1e-6


@pytest.mark.parametrize("backend", ["cpp", "reference"])
def test_no_entry_is_negative_where_epsilon_ends_at_a_change(backend: str) -> None:
    """Sums in another order may be beyond half of epsilon by rounding."""
    p, v = pairs("zeros", 400)
    for count in range(1, K):
        raised = (v - p).clamp_min(0.0).sort(1).values[:, :count].sum(1)
        for i in range(0, len(p), 7):
            q = mp.move(
                p[i : i + 1],
                v[i : i + 1],
                epsilon=2 * float(raised[i]),
                style="sparse",
                backend=backend,
            )
            assert float(q.min()) >= 0.0


def test_shares_of_a_side() -> None:
    d = torch.tensor([[0.0, 0.1, 0.2, 0.2, 0.9], [0.3, 0.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    share = smallest_first(d, 0.3)
    assert share[0].tolist() == pytest.approx([1, 1, 0.5, 0.5, 0])
    assert share[1].tolist() == pytest.approx([1, 1, 1, 1, 1])
