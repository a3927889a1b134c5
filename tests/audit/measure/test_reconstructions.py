"""What adversaries reconstruct, and how good it is."""

from __future__ import annotations

import torch
from audited import images, people

from mipoison.audit.measure.reconstructions import Space, guessed, judge


def test_inputs_of_few_components_survive_coding():
    generator = torch.Generator().manual_seed(100)
    x = torch.rand(300, 5, generator=generator) @ torch.rand(5, 400, generator=generator)
    space = Space.of(x, seed=0)
    coded = space.encode(x)
    assert coded.shape[1] < x.shape[1]
    assert torch.allclose(space.decode(coded), x, atol=1e-4)
    # (Lengths are kept, so that errors of the code are those of the inputs.)
    assert torch.allclose((coded[0] - coded[1]).norm(), (x[0] - x[1]).norm(), rtol=1e-4)
    again = Space.of(x, seed=0)
    assert again.directions is not None and torch.equal(again.directions, space.directions)


def test_few_inputs_are_taken_as_they_are_and_cut_to_what_was_seen():
    x = torch.rand(50, 3)
    space = Space.of(x, seed=0)
    assert torch.equal(space.encode(x), x)
    assert torch.equal(space.decode(torch.full((1, 3), 9.0))[0], x.amax(0))


def test_a_perfect_reconstruction_is_judged_so():
    for evidence in (images(40), images(40, channels=3), people(40)):
        quality = judge(evidence, evidence.inputs, evidence.inputs, evidence.inputs)
        assert quality["r2"] == 1
        assert quality.get("ssim", 1.0) == 1
        assert set(quality.get("columns", {"": 1.0}).values()) == {1.0}


def test_from_nothing_the_most_frequent_category_is_told():
    evidence = people(200)
    share = float(evidence.inputs[:, 0].mean())
    told = guessed(evidence, evidence.inputs, evidence.inputs)
    assert abs(told["color"] - max(share, 1 - share)) < 1e-6
    assert abs(told["age"]) < 1e-6
