"""Cross-fitting: whole groups in either half, every label in both, and fresh rows that spend what was asked for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from worlds import world

import mipoison as mp
from mipoison.defenses.lpa import crossfit
from mipoison.defenses.lpa.crossfit import _half
from mipoison.reference import label_of

K = 5
BUDGET = 0.1


def copies(count: int, each: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows that are slightly altered copies of `count` others, their inputs and the groups."""
    p, x = world(count, K, 6, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    group = torch.arange(count).repeat_interleave(each)
    shift = 0.3 * torch.randn((count * each, K), generator=generator)
    return torch.softmax(p[group].log() + shift, 1), x[group], group


def spent(defense: mp.LPA, p: Tensor) -> float:
    return float((defense(p).double() - p.double()).abs().sum(1).mean())


def test_halves_hold_whole_groups_and_every_label() -> None:
    p, _, group = copies(60, 4, seed=1)
    order = torch.randperm(len(p))
    p, group = p[order], group[order]
    half = _half(p, group, seed=3)
    assert half is not None
    for number in group.unique():
        assert half[group == number].unique().numel() == 1
    for label in label_of(p).unique():
        assert 0.3 < float(half[label_of(p) == label].double().mean()) < 0.7
    assert torch.equal(half, _half(p, group, seed=3))


@pytest.mark.parametrize(("rows", "each"), [(900, 1), (5, 100), (6, 2)])
def test_few_rows_or_groups_are_not_halved(rows: int, each: int) -> None:
    p = world(rows, K)[0].repeat_interleave(each, 0)
    group = torch.arange(rows).repeat_interleave(each)
    if rows < 10:
        p = torch.softmax(torch.randn(rows, K) + 3 * torch.eye(K).repeat(2, 1)[:rows], 1)
        p = p.repeat_interleave(each, 0)
    assert _half(p, None if each == 1 else group, seed=0) is None


@pytest.mark.full
def test_fresh_rows_spend_the_budget_when_fitted_on_copies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    p, x, group = copies(150, 6, seed=1)
    fresh, _, _ = copies(1000, 1, seed=2)
    halves = []

    def seen(*given: Any) -> Tensor | None:
        halves.append(_half(*given))
        return halves[-1]

    monkeypatch.setattr(crossfit, "_half", seen)
    told = mp.LPA.fit(p, x, objective="generator", budget=BUDGET, key=1, groups=group)
    assert spent(told, fresh) == pytest.approx(BUDGET, rel=0.25)
    # Nine hundred rows are too few to be halved, unless they are known to be copies: those were, and group by group.
    (half,) = halves
    assert half is not None and half.unique().numel() == 2
    assert all(half[group == number].unique().numel() == 1 for number in group.unique())


@pytest.mark.full
def test_from_a_thousand_rows_on_fresh_rows_spend_the_budget_within_a_tenth() -> None:
    p, x = world(1200, K, 6, seed=1)
    fresh, _ = world(4000, K, seed=2)
    served = mp.LPA.fit(p, x, budget=BUDGET, key=1)
    assert spent(served, fresh) == pytest.approx(BUDGET, rel=0.1)


@pytest.mark.parametrize(
    ("groups", "error", "message"),
    [
        (torch.arange(59), ValueError, r"of shape \(60,\), one integer a row, got \(59,\)"),
        (torch.zeros(60, 1, dtype=torch.long), ValueError, r"got \(60, 1\)"),
        (torch.rand(60), TypeError, "expected groups to hold integers, got torch.float32"),
    ],
)
def test_wrong_groups_are_refused(groups: Tensor, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        mp.LPA.fit(*world(60, K, 2), groups=groups)
