"""Whoever can run the defense undoes what others cannot, with pairs of their own."""

import pytest
import torch

from mipoison.eval.adversaries.attack import attack
from mipoison.eval.adversaries.recovery import attack_undoing, drawn_near
from mipoison.eval.adversaries.settings import AdversarySettings
from mipoison.eval.data.splits import Role

SETTINGS = AdversarySettings(
    width=32, epochs=20, wide_width=32, wide_epochs=20, neighbours=(3,), held_out=40
)
WIDE = "wide MLP, raw+log"


def rotated(vectors, key):
    """Keeps the label and shifts the other entries round, whatever the key: it can be undone."""
    order = vectors.argsort(1, descending=True)
    others = order[:, 1:]
    moved = vectors.gather(1, others).roll(1, dims=1)
    return vectors.scatter(1, others, moved)


@pytest.fixture(scope="module")
def recovered():
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn((6, 4), generator=generator)

    def role(rows):
        inputs = torch.rand((rows, 6), generator=generator)
        return Role(inputs, torch.zeros(rows), torch.arange(rows)), torch.softmax(
            inputs @ mixing, 1
        )

    (auxiliary, clean), (victims, asked) = role(240), role(60)
    simulators = [lambda vectors, key: vectors, rotated]
    queries = torch.stack([simulate(clean, 1) for simulate in simulators])
    served = torch.stack([simulate(asked, 1) for simulate in simulators])
    sides = queries, auxiliary, served, victims
    made = attack(SETTINGS, *sides, seed=1)
    keys = []

    def watched(vectors, key):
        keys.append((key, vectors))
        return rotated(vectors, key)

    simulators[1] = watched
    found = attack_undoing(SETTINGS, made, 0, simulators, *sides, seed=2)
    return made.beside(found), keys, clean


def test_its_variants_stand_beside_the_others(recovered):
    attacked = recovered[0]
    for name in ("recovery of vectors", "recovery of images", f"denoiser, {WIDE}"):
        assert attacked.errors[name].shape == (2, 60) and attacked.held_out[name].shape == (2,)
    for name in ("recovery of vectors", "recovery of images"):
        assert attacked.errors[name][1].mean() < 0.8 * attacked.errors["label only"][1].mean()


def test_it_asks_under_keys_of_its_own_for_vectors_of_its_own(recovered):
    _, keys, clean = recovered
    assert len({key for key, _ in keys}) == len(keys) == SETTINGS.recovery_draws
    own, drawn = (vectors for _, vectors in keys)
    assert torch.equal(own, clean[:200]) and torch.equal(drawn.argmax(1), own.argmax(1))
    assert (drawn != own).any(1).float().mean() > 0.9


def test_draws_near_confident_vectors_are_as_confident():
    own = torch.tensor([[1 - 1e-20, 1e-20, 0.0], [1 - 1e-12, 1e-12, 1e-30]])
    drawn = drawn_near(own, torch.Generator().manual_seed(0))
    assert drawn.isfinite().all() and (drawn[:, 0] > 0.999).all()
    assert ((drawn[:, 1] > 1e-21) & (drawn[:, 1] < 1e-11)).all()
