"""What an audit will do."""

from __future__ import annotations

import pytest
import torch

from mipoison.audit.measure.plan import BUDGET_SHARES, PRESETS, budgets, defenses, one_answer


def test_one_answer_a_label_takes_the_nearer_of_corner_and_mean():
    near_the_corner = torch.tensor([[0.98, 0.02], [0.96, 0.04], [0.01, 0.99], [0.03, 0.97]])
    assert one_answer(near_the_corner) == pytest.approx(0.04, abs=1e-6)
    alike = torch.tensor([[0.6, 0.4], [0.6, 0.4], [0.45, 0.55]])
    # (The third row has no other of its label, and goes to its corner.)
    assert one_answer(alike) == pytest.approx(0.9 / 3)


def test_budgets_are_the_shares_to_two_digits():
    p = torch.rand(500, 5, generator=torch.Generator().manual_seed(100)).softmax(1)
    assert budgets(p) == tuple(float(f"{share * one_answer(p):.2g}") for share in BUDGET_SHARES)


def test_vectors_that_tell_the_label_alone_leave_nothing_to_defend():
    assert budgets(torch.eye(3)) == () and defenses(()) == ()


def test_every_budget_has_the_recommended_defenses_and_a_baseline():
    families = [method.family for method in defenses((0.1,))]
    assert {"LPA auto", "LPA generator", "LPA codebook", "High confidence"} <= set(families)
    assert len({method.name for method in defenses((0.1, 0.2, 0.3))}) == len(
        defenses((0.1, 0.2, 0.3))
    )


@pytest.mark.parametrize("rows", [40, 100, 5000])
def test_adversaries_fit_the_rows(rows):
    settings = PRESETS["standard"].adversary_for(rows)
    settings.check_rows(rows)
    assert settings.held_out < rows / 4
