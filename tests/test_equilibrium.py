"""Equilibrium: its candidates, its penalty, and the network behind its decoys."""

from __future__ import annotations

import pytest
import torch
from distributions import DISTRIBUTIONS, draw
from worlds import world

import mipoison as mp
from mipoison.defenses.bank import Bank
from mipoison.defenses.clean import defender_rows
from mipoison.defenses.lpa.candidates import KINDS, Candidates
from mipoison.defenses.lpa.equilibrium import Equilibrium
from mipoison.defenses.lpa.game import SHARPNESS, Rules, _Memory, bisect_penalty_weight, choose
from mipoison.defenses.lpa.key_cells import KeyCells
from mipoison.keys import Key
from mipoison.progress import Progress
from mipoison.reference import label_of

K = 10


def test_every_candidate_is_feasible() -> None:
    defense = mp.LPA.fit(*world(150, K, 3), objective="equilibrium", key=1)
    p = defender_rows(torch.cat([draw(d, 40, K, seed=4) for d in DISTRIBUTIONS]).float())
    answers, words = defense.objective.candidates.make(p, key=Key(3), epsilon=0.5, norm="l1")
    assert answers.shape == (len(p), Candidates.COUNT, K)
    assert words.shape == (len(p), Candidates.COUNT)
    label = label_of(p)
    for answer in answers.unbind(1):
        top = answer.gather(1, label[:, None])
        assert (top > answer.scatter(1, label[:, None], -1.0)).all() and (answer >= 0).all()
        assert float((answer.double() - p.double()).abs().sum(1).max()) <= 0.5 + 2e-7
        assert float((answer.double().sum(1) - 1).abs().max()) <= 1e-6


def test_the_penalty_weight_meets_the_budget_on_either_side_of_zero() -> None:
    generator = torch.Generator().manual_seed(0)
    moved = torch.rand(500, 8, generator=generator)
    score, noise = torch.rand(500, 8, generator=generator) + moved, torch.zeros(500, 8)
    for budget, positive in ((0.2, True), (0.95 * float(moved.amax(1).mean()), False)):
        weight = bisect_penalty_weight(score, moved, noise, budget, 10.0)
        index = choose(score, moved, noise, weight, 10.0)
        spent = float(moved.gather(1, index[:, None]).mean())
        assert spent == pytest.approx(budget, rel=0.02)
        assert (weight > 0) == positive


def test_the_last_part_of_a_long_move_is_penalized_more_than_the_first() -> None:
    """Where the harm grows evenly with the move, rows go half of the way rather than the whole or not at all."""
    moved = torch.tensor([[0.0, 0.4, 0.8]]).repeat(2, 1)
    score, noise = moved.clone(), torch.zeros(2, 3)
    assert choose(score, moved, noise, 1 / (1 + 0.8), 10.0).tolist() == [1, 1]


def test_given_moves_are_reused() -> None:
    defense = mp.LPA.fit(*world(60, K, 3), objective="equilibrium", key=1)
    p, given = defender_rows(world(20, K)[0]), {"key": Key(3), "epsilon": 0.5, "norm": "l1"}
    candidates = defense.objective.candidates
    answers, words = candidates.make(p, **given)
    moves = answers[:, :-4].clone()
    again, same = candidates.make(p, **given, moves=moves)
    assert torch.equal(again, answers) and torch.equal(same, words)
    moves[0, 1] = p[0].flip(0)
    assert torch.equal(candidates.make(p, **given, moves=moves)[0][0, 1], p[0].flip(0))


def test_a_decoy_heads_for_the_farthest_of_its_goals() -> None:
    """Eight of sixteen places each, of which the next decoy has the second half too; the last shares the first's."""
    candidates = mp.LPA.fit(*world(60, K, 3), objective="equilibrium", key=1).objective.candidates
    p = defender_rows(world(20, K)[0]).float()
    places = torch.randint(60, (len(p), 16), generator=torch.Generator().manual_seed(0))
    goals = candidates._goals(p, places)
    there, here = candidates.recovered[places], candidates.guide(p)
    for decoy in range(4):
        own = [(4 * decoy + i) % 16 for i in range(8)]
        far = torch.stack([(there[:, i] - here).square().sum(1) for i in own], 1)
        best = torch.tensor(own)[far.argmax(1)]
        assert torch.equal(goals[:, decoy], there[torch.arange(len(p)), best])


def test_only_the_last_rounds_count_where_memory_ends() -> None:
    """Sums of what the rounds add, one number each: all of them, or the last two."""
    for limit, expected in ((None, [0.0, 1.0, 1.5, 2.0]), (2, [0.0, 1.0, 1.5, 2.5])):
        past = _Memory(limit, (torch.zeros(1),))
        means = [float(past.mean(0))]
        for turn in (1.0, 2.0, 3.0):
            (total,) = past.begin()
            past.end(total + turn)
            means.append(float(past.mean(0)))
        assert means == expected


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_of_candidates_is_left_out(kind: str) -> None:
    p, x = world(60, K, 3)
    rows, rules = defender_rows(p), Rules(rounds=2, memory=1, without=(kind,))
    played = Equilibrium.fit(
        rows, x, budget=0.1, epsilon=0.8, norm="l1", progress=Progress(None), rules=rules
    )
    answers, words = played.candidates.make(rows, key=Key(3), epsilon=0.8, norm="l1")
    left_out = {"nearest": 9, "bank": 6, "center": 3, "decoys": 4}[kind]
    assert answers.shape[1] == words.shape[1] == Candidates.COUNT - left_out
    again = Equilibrium.restore(played.settings(), played.state_dict())
    given = {"key": Key(3), "epsilon": 0.8, "norm": "l1"}
    assert again.sharpness == played.sharpness == SHARPNESS
    assert torch.equal(again.poison(rows, **given), played.poison(rows, **given))


def test_an_unknown_kind_is_refused() -> None:
    rows = defender_rows(world(20, K)[0])
    with pytest.raises(ValueError, match=r"kinds out of .*'decoys'.* got \('decoy',\)"):
        Candidates(Bank(rows), None, budget=0.1, key_cells=KeyCells.of(rows), without=("decoy",))
