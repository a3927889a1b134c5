"""Alignment: its gradients are autograd's, its answers are what it claims to maximise, and its targets are fixed."""

from __future__ import annotations

import itertools

import pytest
import torch
from distributions import draw
from torch import Tensor
from worlds import world

import mipoison as mp
from mipoison.defenses.lpa import alignment
from mipoison.defenses.lpa.alignment import Alignment, FullAlignment
from mipoison.defenses.lpa.gradients import Gradient, cosine, factors, summed
from mipoison.defenses.lpa.targets import Targets
from mipoison.reference import label_of

K = 6
pytestmark = pytest.mark.whole_fits


@pytest.fixture(scope="module")
def pairs() -> tuple[Tensor, Tensor]:
    return world(160, K, 3, 4)


@pytest.fixture(scope="module")
def surrogate(pairs: tuple[Tensor, Tensor]) -> mp.Surrogate:
    return mp.Surrogate.fit(*pairs, epochs=8)


def loss_gradient(surrogate: mp.Surrogate, member: int, q: Tensor, goal: Tensor) -> list[Tensor]:
    """∇_θ ½‖G(q) − goal‖² of one member, summed over the rows, by autograd in a network written anew."""
    weights, biases = (
        [x[member].clone().requires_grad_() for x in surrogate.state()[first::2]]
        for first in (0, 1)
    )
    h = surrogate.inside(q)
    for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        h = h @ weight + bias
        h = h if i == len(weights) - 1 else h.relu()
    loss = 0.5 * (h[:, : goal.shape[1]] - goal).square().sum()
    gradients = torch.autograd.grad(loss, [*weights, *biases])
    return list(
        itertools.chain(*zip(gradients[: len(weights)], gradients[len(weights) :], strict=True))
    )


def flat(gradient: Gradient, member: int) -> Tensor:
    return torch.cat([part[member].flatten() for layer in gradient for part in layer])


# Gradients.


def test_the_summed_gradient_is_that_of_autograd(
    surrogate: mp.Surrogate, pairs: tuple[Tensor, Tensor]
) -> None:
    p = pairs[0][:9]
    goal = surrogate(p.flip(0))
    made = summed(factors(surrogate, p, goal))
    for member in range(3):
        expected = torch.cat([g.flatten() for g in loss_gradient(surrogate, member, p, goal)])
        assert torch.allclose(flat(made, member), expected / expected.norm(), atol=1e-5)


def test_the_cosine_is_that_of_the_whole_gradients(
    surrogate: mp.Surrogate, pairs: tuple[Tensor, Tensor]
) -> None:
    p = pairs[0][:5]
    goal = surrogate(p.flip(0))
    target = summed(factors(surrogate, pairs[0][20:60], surrogate(pairs[0][60:100])))
    cosines = cosine(factors(surrogate, p, goal), target)
    for member in range(3):
        for row in range(5):
            one = slice(row, row + 1)
            own = torch.cat(
                [g.flatten() for g in loss_gradient(surrogate, member, p[one], goal[one])]
            )
            expected = torch.nn.functional.cosine_similarity(own, flat(target, member), dim=0)
            assert float(cosines[member, row]) == pytest.approx(float(expected), abs=1e-5)


def test_an_exactly_fitted_pair_has_no_direction_and_no_nan(surrogate: mp.Surrogate) -> None:
    p = draw("plain", 4, K).float()
    pairs = [(a, torch.zeros_like(s)) for a, s in factors(surrogate, p, surrogate(p))]
    target = summed(factors(surrogate, p, surrogate(p.flip(0))))
    assert torch.equal(cosine(pairs, target), torch.zeros(3, 4))
    assert torch.isfinite(flat(summed(pairs), 0)).all()


# Targets.


def test_a_target_is_the_gradient_of_its_loss(
    surrogate: mp.Surrogate, pairs: tuple[Tensor, Tensor]
) -> None:
    """Of "clean" −L to the row's own input, of "decoy" L to that of another row of the label."""
    p, x = pairs[0][:1], pairs[1][:1]
    goal = (x.reshape(1, -1) - surrogate.offset) @ surrogate.basis.T
    clean = Targets.fit(surrogate, p, x, loss="clean", layers=3)
    assert len(clean) == 1
    own = summed(factors(surrogate, p, goal))
    assert torch.allclose(flat(clean[0], 1), -flat(own, 1), atol=1e-6)
    same = p.expand(2, K).clone()
    inputs = pairs[1][:2]
    decoy = Targets.fit(surrogate, same, inputs, loss="decoy", layers=3)
    goals = (inputs.reshape(2, -1) - surrogate.offset) @ surrogate.basis.T
    either = [flat(summed(factors(surrogate, p, g[None])), 0) for g in goals]
    found = [flat(decoy[i], 0) for i in range(2)]
    # The row whose own input is goals[0] is drawn to goals[1], and the other way round.
    assert any(
        torch.allclose(found[0], a, atol=1e-6) and torch.allclose(found[1], b, atol=1e-6)
        for a, b in (either, either[::-1])
    )


def test_targets_keep_the_layers_asked_for(
    surrogate: mp.Surrogate, pairs: tuple[Tensor, Tensor]
) -> None:
    first = Targets.fit(surrogate, *pairs, layers=1)
    every = Targets.fit(surrogate, *pairs, layers=3)
    assert (first.layers, every.layers, len(first), len(every)) == (1, 3, 8, 8)
    assert torch.equal(first[5][0][0], every[5][0][0])
    other = Targets.fit(surrogate, *pairs, layers=1, seed=1)
    assert not torch.equal(other[5][0][0], first[5][0][0])


def test_an_unknown_loss_is_named(surrogate: mp.Surrogate, pairs: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(ValueError, match=r"expected loss to be one of .*'decoy'.* got 'best'"):
        Alignment.fit(surrogate, *pairs, loss="best")


# What it maximises.


def test_the_closed_form_is_the_linear_maximiser(
    surrogate: mp.Surrogate, pairs: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No random vector of the row's set has a larger linearised alignment than the answer."""
    objective = Alignment.fit(surrogate, *pairs)
    p, epsilon = draw("plain", 40, K, seed=8).float(), 0.2
    target, x, start = objective.targets[0], surrogate(p), mp.lpa(p, epsilon=epsilon, key=1)

    def score(q: Tensor, x: Tensor) -> Tensor:
        inside, carried = factors(surrogate, q, x, smooth=True)[0]
        return ((inside @ target[0][0]) * carried.detach()).sum(-1)

    # Once: from there on the gradient is another.
    monkeypatch.setattr(alignment, "_ROUNDS", 1)
    q = objective._align(p, start, x, 0, epsilon, "l1")
    g = surrogate.gradient_of(score, start, x)
    g = g / g.norm(dim=1, keepdim=True)
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        z = p + torch.randn(p.shape, generator=generator)
        rival = mp.project(z, center=p, epsilon=epsilon)
        assert float((g * (rival - q)).sum(1).max()) < 0.021 * epsilon


@pytest.mark.parametrize("loss", ["decoy", "clean"])
def test_full_steps_align_better_than_their_start(
    surrogate: mp.Surrogate, pairs: tuple[Tensor, Tensor], loss: str
) -> None:
    objective = FullAlignment.fit(surrogate, *pairs, loss=loss)
    p = draw("plain", 100, K, seed=9).float()
    start = mp.lpa(p, epsilon=0.3, key=2)
    target, x = objective.targets[3], surrogate(p)
    q = objective._align(p, start, x, 3, 0.3, "l1")
    before, after = (cosine(factors(surrogate, z, x), target).mean() for z in (start, q))
    assert float(after) > float(before) + 0.1


# What it promises.


@pytest.mark.parametrize("objective", ["alignment", "alignment-full"])
@pytest.mark.parametrize("loss", ["decoy", "clean"])
def test_answers_depend_on_the_key(
    surrogate: mp.Surrogate, pairs: tuple[Tensor, Tensor], objective: str, loss: str
) -> None:
    kind = {"alignment": Alignment, "alignment-full": FullAlignment}[objective]
    fitted = kind.fit(surrogate, *pairs, loss=loss)
    p = draw("plain", 200, K, seed=6).float()
    one, two = (mp.LPA(fitted, epsilon=0.2, key=key)(p) for key in (1, 2))
    assert float(((one - two).abs().sum(1) > 0.04).double().mean()) > 0.5
    assert (label_of(one) == label_of(p)).all()


def test_many_classes() -> None:
    p, x = world(60, 300, 5)
    q = mp.LPA.fit(p, x, objective="alignment", epsilon=0.1, key=1)(p)
    assert (label_of(q) == label_of(p)).all()
    assert float((q - p).abs().sum(1).max()) <= 0.1 + 2e-7
