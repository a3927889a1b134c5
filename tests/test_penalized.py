"""Objectives with a penalty: the budget, the key, batches of every size, saved state, and data of every kind."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from distributions import DISTRIBUTIONS, draw
from later import later
from torch import Tensor
from worlds import world

import mipoison as mp
from mipoison.defenses.lpa.penalized import Penalized
from mipoison.reference import label_of

K = 10
BUDGET = 0.1
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


class Fit:
    """The objective under key 1 unless told otherwise."""

    def __init__(self, objective: str) -> None:
        self.objective = objective

    def __call__(self, p: Tensor, x: Tensor, **options: object) -> mp.LPA:
        given = {"budget": BUDGET, "key": 1} | options
        return mp.LPA.fit(p, x, objective=self.objective, **given)


@pytest.fixture(scope="module", params=["equilibrium", *later("generator")])
def fit(request: pytest.FixtureRequest) -> Fit:
    return Fit(request.param)


@pytest.fixture(scope="module")
def defense(fit: Fit) -> mp.LPA:
    """Fitted on 300 rows."""
    return fit(*world(300, K, 3, 4))


def moves(q: Tensor, p: Tensor) -> Tensor:
    """‖q − p‖₁ of each row, in float64."""
    return (q.double() - p.double()).abs().sum(1)


def test_fresh_rows_spend_the_budget(defense: mp.LPA) -> None:
    p, _ = world(2000, K, seed=5)
    assert float(moves(defense(p), p).mean()) == pytest.approx(BUDGET, rel=0.25)


@pytest.mark.parametrize("norm", later("l2", "linf"))
def test_other_norms_are_played_with_straight_moves(fit: Fit, norm: str) -> None:
    p, x = world(200, K, 4)
    q = fit(p, x, norm=norm, epsilon=0.3)(p)
    order = {"l2": 2, "linf": float("inf")}[norm]
    assert (
        float(torch.linalg.vector_norm(q.double() - p.double(), order, dim=1).max()) <= 0.3 + 2e-7
    )
    assert float(moves(q, p).mean()) == pytest.approx(BUDGET, rel=0.25)


@pytest.mark.parametrize(("budget", "epsilon"), [(0.05, 0.4), (0.2, 1.0)])
def test_the_cap_is_eight_budgets_and_one_at_most(fit: Fit, budget: float, epsilon: float) -> None:
    assert fit(*world(60, K, 2), budget=budget).epsilon == pytest.approx(epsilon)


def test_a_budget_out_of_reach_is_refused(fit: Fit) -> None:
    with pytest.raises(ValueError, match=r"epsilon=0\.05 lets the rows reach, got 0\.1"):
        fit(*world(60, K, 2), epsilon=0.05)


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_label_ever_changes(defense: mp.LPA, dtype: torch.dtype) -> None:
    p = torch.cat([draw(d, 400, K, seed=6) for d in DISTRIBUTIONS]).to(dtype)
    q, label = defense(p).double(), label_of(p)[:, None]
    assert (q.gather(1, label) > q.scatter(1, label, -1.0)).all()


def test_another_key_gives_another_answer(defense: mp.LPA) -> None:
    p, _ = world(300, K, seed=3)
    other = mp.LPA(defense.objective, epsilon=defense.epsilon, key=2)
    assert torch.equal(defense(p), defense(p))
    moved = (moves(defense(p), p) > 0) | (moves(other(p), p) > 0)
    assert float((moves(defense(p), other(p)) > 0.01)[moved].double().mean()) > 0.3


@pytest.mark.parametrize("k", [10, *later(2, 130)])
def test_batch_invariance(fit: Fit, k: int) -> None:
    served = (
        fit(*world(2 * k + 150, k, 4), budget=0.05) if k < 100 else fit(*paired(k), budget=0.05)
    )
    p = torch.cat([draw(d, 20, k, seed=4) for d in DISTRIBUTIONS]).float()
    whole, order = served(p), torch.randperm(len(p))
    for threads in (1, 2):
        torch.set_num_threads(threads)
        assert torch.equal(served(p[order]), whole[order])
        for start, stop in ((0, 1), (17, 18), (3, 70), (50, 110)):
            assert torch.equal(served(p[start:stop]), whole[start:stop])


def paired(k: int) -> tuple[Tensor, Tensor]:
    """Every label twice: few rows, many classes."""
    p = torch.softmax(torch.randn(2 * k, k) + 9 * torch.eye(k).repeat(2, 1), 1)
    return p, torch.rand(2 * k, 3)


def test_a_saved_defense_answers_the_same_bits(defense: mp.LPA, tmp_path: Path) -> None:
    p, _ = world(100, K, seed=3)
    defense.save(tmp_path / "lpa.safetensors")
    loaded = mp.LPA.load(tmp_path / "lpa.safetensors", key=1)
    assert torch.equal(loaded(p), defense(p)) and repr(loaded) == repr(defense)
    assert loaded.realised == defense.realised == pytest.approx(BUDGET, rel=0.25)
    assert not torch.equal(mp.LPA.load(tmp_path / "lpa.safetensors", key=2)(p), defense(p))


def test_extra_state_of_another_length_is_refused(defense: mp.LPA) -> None:
    objective = defense.objective
    assert isinstance(objective, Penalized)
    with pytest.raises(
        ValueError, match=r"expected penalty weight, budget, temperature in .*, got float64 \(4,\)"
    ):
        objective.set_extra_state(torch.ones(4, dtype=torch.float64))


@pytest.mark.parametrize(
    ("place", "number"), [(0, math.inf), (0, -1e9), (1, 2.5), (2, 0.0), (2, math.inf)]
)
def test_extra_state_out_of_range_is_refused(defense: mp.LPA, place: int, number: float) -> None:
    objective = defense.objective
    assert isinstance(objective, Penalized)
    before = objective.get_extra_state()
    state = before.clone()
    state[place] = number
    with pytest.raises(ValueError, match=r"expected (penalty weight|budget|temperature) in \["):
        objective.set_extra_state(state)
    assert torch.equal(objective.get_extra_state(), before)


@pytest.mark.full
def test_it_is_fitted_and_served_under_inference_mode(fit: Fit, defense: mp.LPA) -> None:
    p, _ = world(40, K, seed=3)
    with torch.inference_mode():
        assert torch.equal(fit(*world(300, K, 3, 4))(p), defense(p))


def test_a_label_with_one_row_is_served_like_one_without_data(fit: Fit) -> None:
    p, x = world(200, K, 3)
    alone = label_of(p) == 3
    keep = ~alone | (torch.arange(200) == int(alone.nonzero()[0]))
    served = fit(p[keep], x[keep])
    q = served(p[alone])
    assert (label_of(q) == 3).all() and float(moves(q, p[alone]).max()) > 0.05


def test_fewer_than_two_rows_a_label_are_refused(fit: Fit) -> None:
    p = torch.eye(4)[torch.tensor([0, 0, 1, 2, 3])] * 0.8 + 0.05
    with pytest.raises(
        ValueError, match="twice as many outputs as labels among them, got 5 outputs of 4"
    ):
        fit(p, torch.rand(5, 3))
    # Where the advice of another objective would not help, it is not given.
    with pytest.raises(ValueError, match=r"got 1 outputs of 1 labels.* their inputs$"):
        fit(p[:1], torch.rand(1, 3))


def test_a_class_without_data_is_served(fit: Fit) -> None:
    p, x = world(200, K, 3)
    keep = label_of(p) != 3
    served = fit(p[keep], x[keep])
    rows, _ = world(600, K, seed=4)
    rows = rows[label_of(rows) == 3]
    q = served(rows)
    assert (label_of(q) == 3).all()
    # All by the budget: the scores of what the game has not seen would choose the longest moves.
    assert torch.allclose(moves(q, rows), torch.tensor(BUDGET, dtype=torch.float64), rtol=0.01)


@pytest.mark.parametrize("shape", [(), (1,), (2, 3, 4)])
def test_two_rows_of_two_classes_are_enough(fit: Fit, shape: tuple[int, ...]) -> None:
    p = torch.tensor([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.4, 0.6]])
    q = fit(p, torch.rand(4, *shape))(p)
    assert torch.equal(label_of(q), label_of(p)) and torch.isfinite(q).all()


@pytest.mark.whole_fits
def test_a_saturated_classifier_and_equal_inputs(fit: Fit) -> None:
    p = draw("one-hot", 100, K).float()
    objective = fit(p, torch.ones(100, 4)).objective
    answers = [mp.LPA(objective, epsilon=0.8, key=key)(p) for key in range(20)]
    assert all(torch.equal(label_of(q), label_of(p)) for q in answers)
    # Ten distinct rows and equal scores: chance alone chooses, so only the mean over keys tells.
    spent = torch.stack([moves(q, p).mean() for q in answers]).mean()
    assert float(spent) == pytest.approx(BUDGET, rel=0.25)


@pytest.mark.full
def test_a_thousand_classes_of_which_few_have_data(fit: Fit) -> None:
    k, known = 1000, 20
    label = torch.arange(60) % known
    p = torch.softmax(torch.randn(60, k) + 9 * torch.eye(k)[label], 1)
    served = fit(p, torch.rand(60, 5))
    rows = torch.cat([draw(d, 20, k, seed=4) for d in DISTRIBUTIONS]).float()
    q = served(torch.cat([rows, p]))
    clean = torch.cat([rows, p]).double()
    top, moved = label_of(clean)[:, None], moves(q, clean / clean.sum(1, keepdim=True))
    assert (q.gather(1, top) > q.scatter(1, top, -1.0)).all()
    assert float((q.double().sum(1) - 1).abs().max()) <= 1e-6
    assert float(moved.max()) <= served.epsilon + 2e-7
    # What the game has not seen moves by the budget at least, where the label leaves it room.
    unseen = (label_of(rows) >= known) & (rows.amax(1) < 0.9)
    assert float(moved[: len(rows)][unseen].min()) > 0.99 * BUDGET
    assert torch.equal(served(rows[7:8]), q[7:8])
