"""Retrained targets still classify, show less, and the parts of their losses agree with what can be worked out."""

import pytest
import torch
from torch import nn

from mipoison.eval.data.loading import split
from mipoison.eval.targets.retraining import (
    WAYS,
    Bottleneck,
    bilateral_dependency,
    cross_entropy,
    dependence,
    negative_smoothing,
    whitened,
)
from mipoison.eval.targets.training import accuracy, known, serve, train_target


@pytest.fixture(scope="module")
def parts():
    return split("digits", seed=100)


def train(parts, architecture, epochs=15):
    return train_target(
        parts.private,
        classes=10,
        seed=3,
        architecture=architecture,
        image_shape=(8, 8),
        epochs=epochs,
    )


@pytest.mark.full
@pytest.mark.parametrize("architecture", [*(f"mlp+{way}" for way in WAYS), "resnet", "cnn+bido"])
def test_it_still_classifies_and_repeats_itself(parts, architecture):
    model = train(parts, architecture)
    assert accuracy(model, parts.victims) > 0.85
    inputs = parts.victims.inputs
    assert torch.equal(model(inputs), model(inputs))
    assert torch.equal(train(parts, architecture, 2)(inputs), train(parts, architecture, 2)(inputs))


def test_unknown_ways_are_refused(parts):
    assert known("mlp") and known("cnn+vib") and known("cnn+vib:0.1")
    for unknown in (
        "mlp+",
        "vib",
        "mlp+vib:",
        "mlp+vib:much",
        "mlp+vib:nan",
        "mlp+vib:-1",
        "mlp+nls:0.1",
    ):
        assert not known(unknown), unknown
    with pytest.raises(ValueError, match=r"with one of \+nls, \+vib, \+bido .*, got 'mlp\+wish'"):
        train(parts, "mlp+wish")


def test_a_strength_of_its_own_is_taken(parts):
    inputs = parts.victims.inputs
    usual, same, other = (
        train(parts, name, 1)(inputs) for name in ("mlp+nls", "mlp+nls:-0.05", "mlp+nls:-0.5")
    )
    assert torch.equal(usual, same) and not torch.equal(usual, other)


def test_negative_smoothing_shows_less_of_the_other_classes(parts):
    def others(model):
        served = serve(model, parts.victims.inputs, temperature=1.0)
        return float((1 - served.amax(1)).mean())

    assert others(train(parts, "mlp+nls")) < others(train(parts, "mlp"))


def test_negative_smoothing_is_cross_entropy_to_a_moved_label():
    model = nn.Sequential(nn.Linear(4, 3))
    rows, labels = torch.rand(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])
    wanted = 1.3 * nn.functional.one_hot(labels, 3) - 0.3 / 3
    expected = nn.functional.cross_entropy(model(rows), wanted)
    torch.testing.assert_close(negative_smoothing(amount=-0.3).loss(model, rows, labels), expected)


def test_the_bottleneck_s_divergence_is_torch_s():
    bottleneck = Bottleneck(5, 2)
    features = torch.rand(7, 5)
    bottleneck(features)
    mean, spread = bottleneck.encode(features).chunk(2, 1)
    code = torch.distributions.Normal(mean, (nn.functional.softplus(spread) + 1e-6).sqrt())
    expected = torch.distributions.kl_divergence(code, torch.distributions.Normal(0.0, 1.0))
    torch.testing.assert_close(bottleneck.divergence, expected.sum(1).mean())


def test_dependence_is_the_sum_of_squared_correlations():
    # Under linear kernels and without a ridge it is that of the canonical correlations, which a rotation of an
    # orthonormal basis lets one choose.
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(40, 4, generator=generator, dtype=torch.float64)
    basis = torch.linalg.qr(rows - rows.mean(0)).Q
    turn, correlations = torch.tensor((0.3, 1.1)).double(), torch.tensor((0.3, 1.1)).cos()
    first, second = basis[:, :2], basis[:, :2] * turn.cos() + basis[:, 2:] * turn.sin()
    found = dependence(whitened(100 * first @ first.T), whitened(50 * second @ second.T))
    assert float(found) == pytest.approx(float(correlations.square().sum()), rel=1e-4)


def test_dependence_sees_what_depends_whatever_the_scale():
    rows, others = torch.rand((2, 40, 2), generator=torch.Generator().manual_seed(1))
    first, scaled, other = (
        whitened(k) for k in (rows @ rows.T, 9 * rows @ rows.T, others @ others.T)
    )
    assert dependence(first, first) > 3 * dependence(first, other) > 0
    assert float(dependence(first, scaled)) == pytest.approx(
        float(dependence(first, first)), rel=1e-2
    )


def test_bilateral_dependency_moves_what_it_weighs(parts):
    # Of one batch's loss, with one weight at a time: what it multiplies is there, and has its sign.
    model = train(parts, "mlp", 1)
    rows, labels = parts.private.inputs[:32], parts.private.labels[:32]

    def loss(**weights):
        return float(bilateral_dependency(**weights).loss(model, rows, labels).detach())

    bare = loss(inputs=0, labels=0)
    assert bare == pytest.approx(float(cross_entropy(model, rows, labels).detach()))
    assert loss(inputs=0.1, labels=0) > bare + 0.1
    assert loss(inputs=0, labels=0.1) < bare - 0.1
