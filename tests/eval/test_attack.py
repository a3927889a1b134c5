"""Adversaries see only what they may see."""

import pytest
import torch

from mipoison.eval.adversaries.attack import COMMITTEE, attack, attack_trained_clean
from mipoison.eval.adversaries.base import REFIT, STANDARD, Attack
from mipoison.eval.adversaries.settings import AdversarySettings
from mipoison.eval.data.splits import Role

SETTINGS = AdversarySettings(
    width=8, epochs=2, wide_width=8, wide_epochs=2, neighbours=(3,), held_out=20
)


def role(rows, generator):
    return Role(torch.rand(rows, 6, generator=generator), torch.zeros(rows), torch.arange(rows))


def systems(rows, generator):
    return torch.softmax(torch.randn(2, rows, 4, generator=generator), -1)


def test_victims_inputs_are_used_for_scoring_alone():
    generator = torch.Generator().manual_seed(0)
    auxiliary, victims = role(80, generator), role(30, generator)
    queries, served = systems(80, generator), systems(30, generator)
    seen = attack(SETTINGS, queries, auxiliary, served, victims, seed=1)
    other = Role(torch.rand(30, 6), victims.labels, victims.rows)
    blind = attack(SETTINGS, queries, auxiliary, served, other, seed=1)
    for name, pixels in seen.reconstructions.items():
        assert torch.equal(pixels, blind.reconstructions[name])
        assert pixels.shape == (2, 30, 6)
    assert seen.chosen(0) == blind.chosen(0)


def test_the_choice_is_made_without_training_on_held_out_rows():
    """And the chosen variant is trained on them afterwards; look-ups look up in them."""
    generator = torch.Generator().manual_seed(0)
    auxiliary, victims = role(80, generator), role(30, generator)
    queries, served = systems(80, generator), systems(30, generator)
    first = attack(SETTINGS, queries, auxiliary, served, victims, seed=1)
    changed = auxiliary.inputs.clone()
    changed[-20:] = 0.0
    other = Role(changed, auxiliary.labels, auxiliary.rows)
    second = attack(SETTINGS, queries, other, served, victims, seed=1)
    for name in first.networks:
        # (Other inputs held out may end the training after another pass, were there more of them.)
        assert first.networks[name].passes == second.networks[name].passes == [2, 2]
        assert torch.equal(first.reconstructions[name], second.reconstructions[name])
        assert not torch.equal(first.held_out[name], second.held_out[name])
    for name in (REFIT, "3-NN, raw", "label only"):
        assert not torch.equal(first.reconstructions[name], second.reconstructions[name])
    assert first.chosen(0) == REFIT and first.refit[0] == first.best_held_out(0)
    assert first.described(REFIT, 0) == f"{first.refit[0]}, on all rows"


def test_some_rows_must_be_left_to_train_on():
    generator = torch.Generator().manual_seed(0)
    auxiliary, served = role(20, generator), systems(20, generator)
    with pytest.raises(ValueError, match="held_out: expected fewer than the 20 auxiliary rows"):
        attack(SETTINGS, served, auxiliary, served, auxiliary, seed=1)


def test_clean_training_meets_its_own_system_unchanged():
    generator = torch.Generator().manual_seed(0)
    auxiliary, victims = role(80, generator), role(30, generator)
    queries, served = systems(80, generator), systems(30, generator)
    seen = attack(SETTINGS, queries, auxiliary, served, victims, seed=1)
    clean = attack_trained_clean(seen, 0, served, victims)
    torch.testing.assert_close(clean.errors[STANDARD][0], seen.errors[STANDARD][0])
    assert not torch.allclose(clean.errors[STANDARD][1], seen.errors[STANDARD][1])


def test_principal_components_are_computed_once_for_all_networks(monkeypatch):
    """And once more for the rows that the chosen one is trained on again."""
    generator = torch.Generator().manual_seed(0)
    auxiliary, victims = role(80, generator), role(30, generator)
    queries, served = systems(80, generator), systems(30, generator)
    decomposed, svd = [], torch.linalg.svd

    def counted(rows, **settings):
        decomposed.append(len(rows))
        return svd(rows, **settings)

    monkeypatch.setattr(torch.linalg, "svd", counted)
    monkeypatch.setattr(Attack, "best_held_out", lambda self, system: COMMITTEE)
    attack(SETTINGS, queries, auxiliary, served, victims, seed=1)
    assert decomposed == [60, 80]
