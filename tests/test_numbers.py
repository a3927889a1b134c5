"""Counts, seeds, numbers and flags of NumPy and torch count as Python's; everything else is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from distributions import draw
from later import later
from torch import nn

import mipoison as mp
from mipoison.defenses import LabelOnly, Purifier, Rounding, TopK

P = draw("plain", 60, 10, seed=2).float()


@pytest.mark.parametrize("number", [np.int64, torch.tensor, *later(np.uint8, np.array, np.int32)])
def test_counts_seeds_and_draws_of_other_kinds(number: Callable[[int], Any]) -> None:
    two = number(2)
    assert torch.equal(TopK(two)(P), TopK(2)(P)) and torch.equal(Rounding(two)(P), Rounding(2)(P))
    assert torch.equal(
        mp.row_bits(P, draw=two, words=two, key=1), mp.row_bits(P, draw=2, words=2, key=1)
    )
    surrogate = mp.Surrogate.fit(P, P, epochs=two, members=two, seed=two)
    assert torch.equal(surrogate(P), mp.Surrogate.fit(P, P, epochs=2, members=2, seed=2)(P))
    purifier = Purifier.fit(P, epochs=two, seed=two, key=1)
    assert torch.equal(purifier(P), Purifier.fit(P, epochs=2, seed=2, key=1)(P))
    game = mp.LPA.fit(P, P, objective="generator", seed=two, key=1)
    assert torch.equal(game(P), mp.LPA.fit(P, P, objective="generator", seed=2, key=1)(P))


@pytest.mark.parametrize("number", [np.float32, np.float64, np.longdouble, torch.tensor, np.array])
def test_numbers_of_other_kinds(number: Callable[[float], Any]) -> None:
    assert torch.equal(mp.lpa(P, epsilon=number(0.25), key=1), mp.lpa(P, epsilon=0.25, key=1))
    assert torch.equal(mp.lfp(P, rate=number(0.5), key=1), mp.lfp(P, rate=0.5, key=1))


@pytest.mark.parametrize("bad", [True, np.True_, 2.0, "2", None, [2], torch.tensor([2, 3])])
def test_other_counts_are_refused(bad: Any) -> None:
    calls: dict[str, Callable[[], Any]] = {
        "k": lambda: TopK(bad),
        "draw": lambda: mp.row_bits(P, draw=bad),
        "words": lambda: mp.row_bits(P, words=bad),
        "members": lambda: mp.Surrogate.fit(P, P, members=bad),
        "seed": lambda: mp.LPA.fit(P, P, seed=bad),
    }
    if bad is not None:  # (As many epochs as fit.)
        calls["epochs"] = lambda: mp.Surrogate.fit(P, P, epochs=bad)
    for name, call in calls.items():
        with pytest.raises(ValueError, match=f"expected {name} to be an int"):
            call()


@pytest.mark.parametrize("bad", [True, np.True_, "0.2", None, [0.2], 0.2j])
def test_other_numbers_are_refused(bad: Any) -> None:
    for call in (
        lambda: mp.lpa(P, epsilon=bad),
        lambda: mp.Defended(LabelOnly(), LabelOnly(), temperature=bad),
    ):
        with pytest.raises(TypeError, match="to be a number, got"):
            call()
    with pytest.raises(ValueError, match="got inf"):
        mp.lpa(P, epsilon=10**400)


def test_a_margin_shrinks_by_a_center() -> None:
    """Without one it shrank to nothing."""
    for call in (
        lambda: mp.project(P, margin=0.2, shrink=True),
        lambda: mp.step(P, P, alpha=0.1, shrink=True),
    ):
        with pytest.raises(ValueError, match="expected center together with shrink=True"):
            call()


def test_boolean_flags() -> None:
    p = P[:4]
    for yes in (True, 1, np.True_, np.int64(1), torch.tensor(True)):
        assert mp.LFP(audit=yes, key=1).audit is not None
        assert mp.project(p, center=p, margin=1.0, epsilon=0.0, shrink=yes).shape == p.shape
    for bad in ("no", None, 2, 0.5):
        with pytest.raises(TypeError, match="expected audit to be True or False"):
            mp.LFP(audit=bad)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="expected shrink to be True or False"):
            mp.project(p, shrink=bad)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="expected validate to be True or False"):
            mp.Defended(nn.Identity(), LabelOnly(), validate=bad)  # type: ignore[arg-type]
