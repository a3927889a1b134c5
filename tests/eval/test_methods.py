"""Every defense of the demo can be built and keeps its promises."""

import json

import numpy as np
import pytest
import torch

from mipoison.defenses.lpa import AUTO, OBJECTIVES
from mipoison.eval import methods
from mipoison.eval.methods import BUILDERS, Method
from mipoison.eval.presets import DEMO
from mipoison.eval.scores.utility import time_per_row
from mipoison.eval.strengths import SWEEPS, of_mean_l1


@pytest.fixture(scope="module")
def own_data():
    generator = torch.Generator().manual_seed(0)
    outputs = torch.softmax(torch.randn(120, 4, generator=generator), dim=1)
    noise = torch.rand(120, 16, generator=generator)
    return outputs, 0.9 * outputs.repeat(1, 4) + 0.1 * noise


# A gain is certified against a surrogate that learned something.
@pytest.mark.full
@pytest.mark.whole_fits
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
@pytest.mark.parametrize("name", sorted(set(SWEEPS) - {"top_k", "modelguard_s"}))
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


def test_numbers_of_any_library_make_the_same_method():
    given = Method("x", "x", "lpa", [["objective", "decoy"], ["epsilon", np.float64(0.5)]])
    assert given == Method("x", "x", "lpa", (("objective", "decoy"), ("epsilon", 0.5)))
    given = Method("x", "x", "rounding", (("decimals", np.int64(1)),))
    assert json.dumps(given.options) == '[["decimals", 1]]'


@pytest.mark.parametrize("builder", BUILDERS)
def test_an_option_that_no_builder_takes_is_refused(builder):
    with pytest.raises(ValueError, match=r"method 'mine': expected options .*got wish too"):
        Method("mine", "mine", builder, (("wish", 1),))


@pytest.mark.parametrize(
    ("builder", "options", "message"),
    [
        ("lpa", {"objective": "decoy", "norm": "l2"}, "got norm too"),
        ("lpa", {"epsilon": 0.1}, "got no objective"),
        (
            "lpa",
            {"objective": "wish"},
            "objective: expected one of auto, equilibrium, .*got 'wish'",
        ),
        ("lpa", {"objective": "decoy", "epsilon": 0}, "epsilon: expected a number > 0 and <= 2"),
        ("lpa", {"objective": "decoy", "budget": 3}, "budget: expected a number > 0 and <= 2"),
        ("lpa", {"objective": "decoy", "budget": float("nan")}, "budget: expected a number"),
        ("lfp", {"rate": 0.1}, "got no rows, targets"),
        ("lfp", {"rate": 2, "rows": "margin", "targets": "random"}, "rate: expected a number >= 0"),
        ("lfp", {"rate": 0.1, "rows": "wish", "targets": "random"}, "rows: expected one of"),
        ("rounding", {"decimals": 1.5}, "decimals: expected a whole number, got 1.5"),
        ("laplace", {"mean_l1": "much"}, "mean_l1: expected a number, got 'much'"),
        ("ablation", {"budget": 0.1, "error": "cubic"}, "error: expected one of root, squared"),
        ("outside", {"callable": print}, "callable: expected a text"),
        ("none", {"mean_l1": 0.1}, r"expected options \(none\), got mean_l1 too"),
    ],
)
def test_options_that_do_not_fit_are_named(builder, options, message):
    with pytest.raises(ValueError, match=f"method 'mine': .*{message}"):
        Method("mine", "mine", builder, tuple(options.items()))


@pytest.mark.parametrize("objective", [AUTO, *OBJECTIVES])
def test_groups_are_given_to_whom_they_matter(objective, own_data, monkeypatch):
    given = {}
    monkeypatch.setattr(methods.LPA, "fit", lambda *data, **named: given.update(named))
    groups = torch.arange(120)
    options = (("objective", objective), ("budget", 0.1))
    Method("x", "x", "lpa", options).build(*own_data, key=1, seed=2, groups=groups)
    takes = ("auto", "equilibrium", "generator", "codebook", "cutoff")
    assert (given["groups"] is groups) == (objective in takes)
    assert "error" not in given
