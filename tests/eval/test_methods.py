"""Every defense of the demo can be built and keeps its promises."""

import pytest
import torch

from mipoison.eval.methods import BUILDERS, Method, noise_of_mean_l1, time_per_row
from mipoison.eval.presets import DEMO


@pytest.fixture(scope="module")
def own_data():
    generator = torch.Generator().manual_seed(0)
    outputs = torch.softmax(torch.randn(120, 4, generator=generator), dim=1)
    return outputs, torch.rand(120, 16, generator=generator)


@pytest.mark.parametrize("method", DEMO.methods, ids=lambda method: method.name)
def test_every_method_of_the_demo_serves_probability_vectors(method, own_data):
    outputs, _ = own_data
    defended, seconds = time_per_row(method.build(*own_data, key=1, seed=2), outputs)
    moved = (defended.double() - outputs.double()).abs().sum(1)
    assert moved.max() <= dict(method.options).get("epsilon", 2.0) + 1e-6
    assert defended.shape == outputs.shape and seconds >= 0
    torch.testing.assert_close(defended.sum(1), torch.ones(120), atol=1e-5, rtol=0)
    if method.label_preserving:
        assert torch.equal(defended.argmax(1), outputs.argmax(1))


def test_an_objective_is_built_with_a_budget(own_data):
    options = (("objective", "equilibrium"), ("budget", 0.1))
    outputs, _ = own_data
    moved = Method("lpa", "LPA", "lpa", options).build(*own_data, key=1, seed=2)(outputs) - outputs
    assert float(moved.abs().sum(1).mean()) == pytest.approx(0.1, rel=0.25)


def test_noise_reaches_its_mean_l1(own_data):
    outputs, _ = own_data
    noisy = next(method for method in DEMO.methods if method.builder == "laplace")
    moved = noisy.build(*own_data, key=1, seed=2)(outputs) - outputs
    assert float(moved.abs().sum(1).mean()) == pytest.approx(0.2, rel=0.05)


def test_noise_that_cannot_reach_its_mean_l1_stops_at_the_largest_scale():
    found = noise_of_mean_l1(lambda scale: lambda p: p + 0 * scale, torch.zeros(2, 2), 0.2)
    assert torch.equal(found(torch.ones(1)), torch.ones(1))


def test_unknown_builder_says_what_is_allowed(own_data):
    with pytest.raises(ValueError, match="expected a builder out of") as raised:
        Method("mine", "mine", "wish").build(*own_data, key=1, seed=2)
    assert all(name in str(raised.value) for name in BUILDERS)
