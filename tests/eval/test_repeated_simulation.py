"""Simulated answers are drawn under keys that are not the deployment's."""

import pytest
import torch

from mipoison.defenses import LaplaceNoise
from mipoison.eval.adversaries.attack import attack
from mipoison.eval.adversaries.repeated import simulated_draws
from mipoison.eval.adversaries.settings import AdversarySettings
from mipoison.eval.data.splits import Role

KEY = 77


def build(key):
    return LaplaceNoise(scale=0.1, key=key)


@pytest.fixture(scope="module")
def world():
    generator = torch.Generator().manual_seed(0)
    clean = torch.softmax(torch.randn(60, 4, generator=generator), 1)
    auxiliary = Role(torch.rand(60, 6, generator=generator), torch.arange(60) % 4, torch.arange(60))
    return clean, build(KEY)(clean), auxiliary


def test_every_draw_is_another_and_none_is_the_real_one(world):
    clean, queries, auxiliary = world
    vectors, rows = simulated_draws(build, clean, queries, auxiliary, draws=3, held_out=20, seed=1)
    assert vectors.shape == (4 * 40 + 20, 4) and len(rows) == 180
    blocks = vectors[:160].split(40)
    assert torch.equal(blocks[0], queries[:40])
    for index, block in enumerate(blocks):
        for other in blocks[:index]:
            assert (block != other).any(1).all()
    expected = torch.cat([torch.arange(40).repeat(4), torch.arange(40, 60)])
    assert torch.equal(rows.rows, expected)
    assert torch.equal(rows.inputs, auxiliary.inputs[expected])
    assert torch.equal(rows.labels, auxiliary.labels[expected])


def test_rows_kept_back_have_real_answers_alone(world):
    clean, queries, auxiliary = world
    asked = []

    def watched(key):
        assert key != KEY
        defense = build(key)
        return lambda served: asked.append(served) or defense(served)

    vectors, _ = simulated_draws(watched, clean, queries, auxiliary, draws=2, held_out=20, seed=1)
    assert torch.equal(vectors[-20:], queries[-20:])
    assert all(torch.equal(served, clean[:40]) for served in asked) and len(asked) == 2


def test_draws_repeat_themselves_and_heed_the_seed(world):
    first, again, other = (
        simulated_draws(build, *world, draws=2, held_out=20, seed=seed)[0] for seed in (1, 1, 2)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_they_are_what_attack_takes(world):
    settings = AdversarySettings(
        width=8, epochs=2, wide_width=8, wide_epochs=2, neighbours=(3,), held_out=20
    )
    vectors, rows = simulated_draws(build, *world, draws=2, held_out=settings.held_out, seed=1)
    seen = attack(settings, vectors[None], rows, world[1][None], world[2], seed=1)
    assert seen.errors["label only"].shape == (1, 60)


def test_something_must_be_drawn(world):
    with pytest.raises(ValueError, match="draws: expected a number >= 1, got 0"):
        simulated_draws(build, *world, draws=0, held_out=20, seed=1)
