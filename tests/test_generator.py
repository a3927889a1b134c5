"""Generator: what it weighs is what it makes, and the weight is the adversaries' error as its network has it."""

from __future__ import annotations

import pytest
import torch
from distributions import DISTRIBUTIONS, draw
from torch import Tensor
from worlds import world

import mipoison as mp
from mipoison.defenses.clean import defender_rows
from mipoison.defenses.lpa.generator import Generator
from mipoison.defenses.lpa.recovery import COMPONENTS
from mipoison.keys import Key
from mipoison.reference import label_of
from mipoison.reference.choose_move import SHARES, penalty

K = 10
EPSILON = 0.5
KEY = Key(3)


@pytest.fixture(scope="module")
def objective() -> Generator:
    p, x = world(200, K, 3)
    fitted = mp.LPA.fit(p, x, objective="generator", epsilon=EPSILON, key=1).objective
    assert isinstance(fitted, Generator)
    return fitted


@pytest.fixture(scope="module")
def rows() -> Tensor:
    return defender_rows(torch.cat([draw(d, 40, K, seed=4) for d in DISTRIBUTIONS]).float())


def l1(q: Tensor, p: Tensor) -> Tensor:
    return (q.double() - p.double()).abs().sum(-1)


@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
def test_the_move_has_the_length_that_was_scored(
    objective: Generator, rows: Tensor, norm: str
) -> None:
    q = objective.poison(rows, key=KEY, epsilon=0.3, norm=norm)
    chosen, alone = [], []
    for moves in objective._moves(rows, KEY, 0.3, norm):
        best = (moves.score - objective.penalty_weight * penalty(moves.spent)).argmax(
            1, keepdim=True
        )
        chosen.append(moves.spent.gather(1, best))
        alone.append(moves.solitary)
    known = ~torch.cat(alone).squeeze(1)
    expected = torch.cat(chosen).squeeze(1).double()
    assert float(expected.max()) > 0.1
    torch.testing.assert_close(l1(q, rows)[known], expected[known], atol=1e-6, rtol=1e-4)


def test_the_score_is_the_error_of_what_is_interpolated(objective: Generator, rows: Tensor) -> None:
    """Written out for every vector of the bank, without the dot products."""
    predicted = objective.network(rows).double()
    (moves,) = objective._moves(rows, KEY, EPSILON, "l1")
    vectors = objective.bank.vectors[moves.place]
    distance = l1(vectors, rows.unsqueeze(1)).repeat(1, len(SHARES))
    share = (moves.spent[:, 1:].double() / distance.clamp_min(1e-7)).unsqueeze(2)
    here = predicted[:, COMPONENTS : 2 * COMPONENTS + 1].unsqueeze(1)
    there = objective.recovered[moves.place, : COMPONENTS + 1].double().repeat(1, len(SHARES), 1)
    between = torch.cat((here, here + share * (there - here)), 1)
    goal = torch.nn.functional.pad(predicted[:, :COMPONENTS], (0, 1)).unsqueeze(1)
    expected = torch.linalg.vector_norm(between - goal, dim=2)
    known = torch.isfinite(moves.score)
    assert int(known.sum()) > 5000
    torch.testing.assert_close(moves.score.double()[known], expected[known], atol=2e-3, rtol=1e-3)


def test_the_key_excludes_half_of_the_moves(objective: Generator, rows: Tensor) -> None:
    allowed, present = 0, 0
    for key in range(8):
        (moves,) = objective._moves(rows, Key(key), EPSILON, "l1")
        _, distance = objective.bank.others(rows, moves.place.shape[1])
        there = torch.isfinite(distance)
        allowed += int((torch.isfinite(moves.score[:, 1 : 1 + there.shape[1]]) & there).sum())
        present += int(there.sum())
    assert allowed / present == pytest.approx(0.5, abs=0.03)


def test_every_answer_lies_between_the_row_and_a_vector_of_the_bank(
    objective: Generator, rows: Tensor
) -> None:
    q = objective.poison(rows, key=KEY, epsilon=EPSILON, norm="l1")
    bank = objective.bank.vectors
    p = rows.unsqueeze(1)
    detour = l1(q.unsqueeze(1), p) + l1(bank, q.unsqueeze(1)) - l1(bank, p)
    same = label_of(bank) == label_of(rows).unsqueeze(1)
    assert float(detour.masked_fill(~same, torch.inf).amin(1)[same.any(1)].max()) < 1e-5
