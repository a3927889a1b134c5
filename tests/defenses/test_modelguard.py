"""ModelGuard: W solves its linear program, S answers with few codewords within epsilon."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from distributions import draw
from scipy.optimize import linprog

from mipoison.defenses import ModelGuardS, ModelGuardW
from mipoison.defenses.baselines import cover
from mipoison.defenses.baselines.cover import Cover
from mipoison.reference import label_of

K = 5
P = draw("plain", 300, K)


def least(p: np.ndarray, epsilon: float) -> float:
    """Min Σ q log p over the row's set, by a solver; variables are q and a bound of |q − p|."""
    k = len(p)
    identity, none = np.eye(k), np.zeros((k, k))
    label = identity - identity[p.argmax()]
    below = [[identity, -identity], [-identity, -identity], [label, none]]
    spent = np.r_[np.zeros(k), np.ones(k)]
    solved = linprog(
        np.r_[np.log(p), np.zeros(k)],
        np.vstack([np.block(below), spent]),
        np.r_[p, -p, np.zeros(k), epsilon],
        np.r_[np.ones(k), np.zeros(k)][None],
        [1.0],
    )
    return float(solved.fun)


@pytest.mark.parametrize("epsilon", [0.05, 0.4, 0.8, 2.0])
@pytest.mark.parametrize(("kind", "k"), [("plain", 3), ("plain", 6), ("ties", 6)])
def test_w_is_the_optimum(kind: str, k: int, epsilon: float) -> None:
    """Of every row, also of those where no class can take all that moves."""
    rows = draw(kind, 12, k)
    q = ModelGuardW(epsilon=epsilon, margin=0.0)(rows)
    for p, answer in zip(rows, q, strict=True):
        assert float(p.log() @ answer) == pytest.approx(least(p.numpy(), epsilon), abs=1e-7)


def test_w_levels_rows_that_have_no_more_to_give() -> None:
    p = torch.tensor([[0.36, 0.33, 0.31]])
    q = ModelGuardW(epsilon=2.0)(p)
    assert torch.allclose(q, torch.full((1, 3), 1 / 3), atol=1e-3) and int(q.argmax()) == 0
    assert torch.equal(ModelGuardW(epsilon=0.0)(p), p)


def test_s_answers_own_rows_within_epsilon_by_the_first_codeword() -> None:
    defense = ModelGuardS.fit(P, epsilon=0.3)
    q = defense(P)
    assert torch.equal(label_of(q), label_of(P)) and len(q.unique(dim=0)) < 100
    # (The codewords' labels lead by the margin, which moves those of ties.)
    assert float((q - P).abs().sum(1).max()) <= 0.3 + 0.01
    mine = defense.codewords[label_of(P)].double()
    near = (mine - P.unsqueeze(1)).abs().sum(2) <= 0.3
    some = near.any(1)
    first = near[some].to(torch.int64).argmax(1)
    assert torch.allclose(q[some], mine[some, first], atol=1e-6)


def test_s_answers_far_rows_with_the_nearest_codeword() -> None:
    defense = ModelGuardS.fit(P, epsilon=0.05)
    far = torch.tensor([[1.0, 0.0, 0.0, 0.0, 0.0]])
    distance = (defense.codewords[0] - far).abs().sum(1)
    assert float(distance.min()) > 0.05
    assert torch.allclose(defense(far), defense.codewords[0, distance.argmin()][None], atol=1e-6)


def test_centers_are_few_and_within_epsilon_of_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many are found at once, and few more than where the farthest row is added alone: there they are 22 and 371."""
    rows = draw("plain", 600, K)
    assert len(Cover(rows).within(2.0)) == 1
    settled = []
    inner = Cover._settled

    def counted(self: Cover, centers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        settled.append(len(centers))
        return inner(self, centers)

    monkeypatch.setattr(Cover, "_settled", counted)
    for epsilon, most in ((0.5, 22), (0.1, 371)):
        centers = Cover(rows).within(epsilon)
        assert float(torch.cdist(rows, centers, p=1).amin(1).max()) <= epsilon
        assert len(centers) <= 1.15 * most
    assert len(settled) < 30
    assert len(Cover(rows).within(0.0)) == 600
    # The mean of three equal rows is another one, by rounding.
    assert len(Cover(rows[:1].expand(3, K)).within(0.0)) <= 2
    monkeypatch.setattr(cover, "_MOST", 100)
    with pytest.raises(ValueError, match=r"100 codewords a label suffice, got 0\.01 for 600 rows"):
        Cover(rows).within(0.01)


def test_s_has_a_codeword_for_labels_without_rows_and_refuses_others() -> None:
    defense = ModelGuardS.fit(P[label_of(P) != 2])
    assert int(defense(torch.eye(K)[2:3]).argmax()) == 2
    with pytest.raises(ValueError, match=r"labels 0 to K − 1 in turn.*use ModelGuardS\.fit"):
        ModelGuardS(defense.codewords.flip(0))
    with pytest.raises(ValueError, match=r"expected epsilon in \[0, 2\]"):
        ModelGuardS.fit(P, epsilon=3)
