"""The evaluator recognises the true images, and less of anything else."""

import pytest
import torch

from mipoison.eval.data.loading import split
from mipoison.eval.scores.victims import Evaluator

pytestmark = pytest.mark.whole_fits


@pytest.fixture(scope="module")
def parts():
    return split("digits", seed=100)


@pytest.fixture(scope="module")
def evaluator(parts):
    return Evaluator.train(parts, target="mlp", seed=1)


def test_true_images_are_recognised(evaluator, parts):
    judged = evaluator.judge(parts.victims.inputs, parts.victims)
    assert judged["identity"] == pytest.approx(evaluator.accuracy) and evaluator.accuracy > 0.9
    assert judged["feature_distance"] == pytest.approx(0.0, abs=1e-9)


def test_other_victims_are_as_far_as_victims_are(evaluator, parts):
    inputs = parts.victims.inputs
    shuffled = inputs[torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0))]
    judged = evaluator.judge(shuffled, parts.victims)
    assert judged["feature_distance"] == pytest.approx(1.0, abs=0.1)
    assert judged["identity"] < 0.25


def test_blurred_images_lie_between(evaluator, parts):
    victims = parts.victims
    worse = [
        evaluator.judge((1 - share) * victims.inputs + share * victims.inputs.mean(0), victims)
        for share in (0.0, 0.3, 0.6, 0.9)
    ]
    distances = [judged["feature_distance"] for judged in worse]
    assert distances == sorted(distances) and distances[-1] > 0.2
    assert worse[-1]["identity"] < worse[0]["identity"]


def test_it_repeats_itself_and_is_no_target(evaluator, parts):
    again = Evaluator.train(parts, target="mlp", seed=1)
    assert again.accuracy == evaluator.accuracy and again.scale == evaluator.scale
    kinds = {type(module).__name__ for module in evaluator.body.modules()}
    assert "Conv2d" in kinds
    flat = Evaluator.train(parts, target="cnn", seed=1)
    assert "Conv2d" not in {type(module).__name__ for module in flat.body.modules()}
