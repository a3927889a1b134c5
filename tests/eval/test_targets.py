"""The target learns, repeats itself, and is served at a temperature."""

import pytest
import torch

from mipoison.eval.data import split
from mipoison.eval.targets import serve, train_target


@pytest.fixture(scope="module")
def parts():
    return split("digits", seed=100)


def test_target_learns_and_repeats_itself(parts):
    first, again = (train_target(parts.private, classes=10, seed=7) for _ in range(2))
    served = serve(first, parts.victims.inputs, temperature=1.0)
    assert (served.argmax(1) == parts.victims.labels).double().mean() > 0.9
    assert torch.equal(served, serve(again, parts.victims.inputs, temperature=1.0))


def test_training_leaves_the_global_generator_alone(parts):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    train_target(parts.private, classes=10, seed=7, epochs=1)
    assert torch.equal(torch.rand(1), expected)


def test_temperature_flattens_without_changing_labels(parts):
    model = train_target(parts.private, classes=10, seed=7, epochs=2)
    sharp = serve(model, parts.victims.inputs, temperature=1.0)
    flat = serve(model, parts.victims.inputs, temperature=3.0)
    assert torch.allclose(flat.sum(1), torch.ones(len(flat)))
    assert (flat.amax(1) < sharp.amax(1)).all()
    assert torch.equal(flat.argmax(1), sharp.argmax(1))


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_temperature_must_be_positive(parts, temperature):
    with pytest.raises(ValueError, match="temperature"):
        serve(torch.nn.Linear(64, 10), parts.victims.inputs, temperature=temperature)
