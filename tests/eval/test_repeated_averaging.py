"""Averaging removes fresh randomness, and teaches nothing about exact repeats of a keyed answer."""

import pytest
import torch

from mipoison.defenses import LaplaceNoise
from mipoison.eval.adversaries.repeated import averaged, deployed
from mipoison.eval.targets.training import serve


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torch.nn.Linear(20, 4)


@pytest.fixture(scope="module")
def inputs():
    return torch.rand(50, 20, generator=torch.Generator().manual_seed(1))


def distance(vectors, others):
    return float((vectors - others).abs().sum(1).mean())


def test_exact_repeats_of_a_keyed_answer_teach_nothing(model, inputs):
    ask = deployed(model, LaplaceNoise(scale=0.05, key=3), temperature=1.0)
    means = averaged(ask, inputs, copies=(1, 2, 7, 128), jitter=0.0, seed=0)
    assert list(means) == [1, 2, 7, 128]
    for vectors in means.values():
        assert torch.equal(vectors, ask(inputs))


def test_fresh_noise_is_averaged_away(model, inputs):
    fresh = torch.Generator().manual_seed(2)

    def defense(served):
        noisy = served + 0.05 * torch.randn(served.shape, generator=fresh)
        return noisy - noisy.mean(1, keepdim=True) + 1 / served.shape[1]

    clean = serve(model, inputs, temperature=1.0)
    means = averaged(
        deployed(model, defense, temperature=1.0), inputs, copies=(1, 64), jitter=0, seed=0
    )
    # The square root of 64, loosely.
    assert distance(means[64], clean) < distance(means[1], clean) / 5


def test_jitter_stays_among_the_pixels_and_reaches_the_model(inputs):
    seen = []

    def ask(queries):
        seen.append(queries)
        return torch.full((len(queries), 2), 0.5)

    averaged(ask, inputs, copies=(3,), jitter=0.2, seed=0)
    assert len(seen) == 3 and torch.equal(seen[0], inputs)
    for copy in seen[1:]:
        assert copy.min() == 0.0 and copy.max() == 1.0
        assert 0.1 < float((copy - inputs).abs().mean()) < 0.2
    assert not torch.equal(seen[1], seen[2])


def test_larger_counts_contain_smaller_ones(model, inputs):
    ask = deployed(model, LaplaceNoise(scale=0.05, key=3), temperature=1.0)
    both = averaged(ask, inputs, copies=(8, 2), jitter=0.1, seed=5)
    assert list(both) == [8, 2]
    assert torch.equal(both[2], averaged(ask, inputs, copies=(2,), jitter=0.1, seed=5)[2])
    assert not torch.equal(both[2], averaged(ask, inputs, copies=(2,), jitter=0.1, seed=6)[2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"copies": ()}, "copies: expected counts >= 1"),
        ({"copies": (4, 0)}, "copies: expected counts >= 1"),
        ({"jitter": -0.1}, "jitter: expected a number >= 0"),
        ({"jitter": float("nan")}, "jitter: expected a number >= 0"),
    ],
)
def test_wrong_options_are_named(change, message, inputs):
    options = {"copies": (2,), "jitter": 0.1, "seed": 0} | change
    with pytest.raises(ValueError, match=message):
        averaged(lambda queries: queries, inputs, **options)
