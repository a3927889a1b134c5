"""The target learns, repeats itself, and is served at a temperature."""

import pytest
import torch

from mipoison.eval.data.loading import split
from mipoison.eval.data.splits import Role
from mipoison.eval.targets.networks import ARCHITECTURES, yang
from mipoison.eval.targets.training import accuracy, serve, train_target


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


@pytest.mark.full
@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_every_architecture_learns_and_repeats_itself(architecture):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 3
    patterns = torch.rand(3, 16, 20, generator=generator)
    inputs = (patterns[labels] + 0.1 * torch.rand(60, 16, 20, generator=generator)).flatten(1)
    role = Role(inputs, labels, torch.arange(60))
    models = [
        train_target(
            role,
            classes=3,
            seed=5,
            architecture=architecture,
            image_shape=(16, 20),
            epochs=20,
            batch=12,
        )
        for _ in range(2)
    ]
    assert accuracy(models[0], role) == 1.0
    served = [serve(model, inputs, temperature=1.0) for model in models]
    assert served[0].shape == (60, 3) and torch.equal(*served)


def test_convolutions_need_images_of_some_size(parts):
    with pytest.raises(
        ValueError, match=r"sides of at least 16 .* got images of \(8, 8\); take 'mlp'"
    ):
        train_target(parts.private, classes=10, seed=7, architecture="yang", image_shape=(8, 8))
    with pytest.raises(ValueError, match=r"got images of \(1, 64\)"):
        train_target(parts.private, classes=10, seed=7, architecture="cnn")


def test_yang_s_classifier_comes_at_its_published_widths():
    model = yang((64, 64), 5, width=128)
    widths = [layer.out_channels for layer in model if isinstance(layer, torch.nn.Conv2d)]
    assert widths == [128, 256, 512, 1024]
    assert model(torch.rand(2, 64 * 64)).shape == (2, 5)


def test_unknown_architecture_says_what_is_allowed(parts):
    with pytest.raises(ValueError, match=r"'cnn', 'mlp', 'resnet', 'yang'\], .*got 'wish'"):
        train_target(parts.private, classes=10, seed=7, architecture="wish")
