"""Every defense of the demo can be built and keeps its promises."""

import pytest
import torch

from mipoison.eval.methods import BUILDERS, Method, time_per_row
from mipoison.eval.presets import DEMO
from mipoison.eval.strengths import SWEEPS, of_mean_l1


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


@pytest.mark.parametrize("mean_l1", [0.05, 0.2])
@pytest.mark.parametrize("name", sorted(set(SWEEPS) - {"top_k"}))
def test_a_swept_defense_reaches_its_mean_l1(name, mean_l1, own_data):
    outputs, _ = own_data
    method = Method(name, name, name, (("mean_l1", mean_l1),))
    defended = method.build(*own_data, key=1, seed=2)(outputs)
    assert torch.equal(defended.argmax(1), outputs.argmax(1))
    # Entries cut off one by one make steps.
    rel = 0.1 if name == "high_confidence" else 0.05
    moved = (defended - outputs).abs().sum(1).mean()
    assert float(moved) == pytest.approx(mean_l1, rel=rel)


def test_strengths_in_steps_take_the_first_that_reaches(own_data):
    outputs, _ = own_data
    steps = [
        float(
            (SWEEPS["top_k"].prepare(outputs, 1, 2)(4 / k)(outputs) - outputs).abs().sum(1).mean()
        )
        for k in (4, 3, 2, 1)
    ]
    assert steps == sorted(steps) and steps[0] < 1e-6
    for goal in (0.05, 0.3, 0.6):
        served = SWEEPS["top_k"].realise(outputs, goal, key=1, seed=2)
        reached = float((served(outputs) - outputs).abs().sum(1).mean())
        assert reached == pytest.approx(min(s for s in steps if s >= goal))


def test_a_mean_l1_out_of_reach_takes_the_largest_strength():
    found = of_mean_l1(lambda strength: lambda p: p + 0 * strength, torch.zeros(2, 2), 0.2)
    assert torch.equal(found(torch.ones(1)), torch.ones(1))


def test_unknown_builder_says_what_is_allowed(own_data):
    with pytest.raises(ValueError, match="expected a builder out of") as raised:
        Method("mine", "mine", "wish").build(*own_data, key=1, seed=2)
    assert all(name in str(raised.value) for name in BUILDERS)
