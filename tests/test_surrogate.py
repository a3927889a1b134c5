"""The surrogate learns, and a row's prediction knows neither its batch nor its place in it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from distributions import draw

import mipoison as mp
from mipoison.nn import evaluate


def linear_world(n: int, k: int = 6, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs that are a function of log p, so that something can be learnt."""
    p = draw("plain", n, k, seed).float()
    mixing = torch.randn(k, 5, generator=torch.Generator().manual_seed(1))
    return p, (p.log() @ mixing).reshape(n, 5, 1)


@pytest.mark.whole_fits
def test_it_reconstructs_what_the_outputs_tell() -> None:
    p, x = linear_world(600)
    surrogate = mp.Surrogate.fit(p[:500], x[:500], epochs=60)
    error = (surrogate.reconstruct(p[500:]) - x[500:]).square().mean()
    assert surrogate.reconstruct(p).shape == x.shape
    assert error < 0.1 * x[500:].var()


def test_seeds_and_kinds() -> None:
    p, x = linear_world(64)
    first = mp.Surrogate.fit(p, x, epochs=2)(p)
    assert torch.equal(first, mp.Surrogate.fit(p.numpy(), np.asarray(x), epochs=2)(p))
    assert not torch.equal(first, mp.Surrogate.fit(p, x, epochs=2, seed=1)(p))


@pytest.mark.parametrize("k", [2, 3, 10, 40])
@pytest.mark.parametrize("size", [1, 5, 33, 100])
def test_place_invariance(k: int, size: int) -> None:
    p = draw("plain", 150, k).float()
    inputs = torch.randn(150, size, generator=torch.Generator().manual_seed(2))
    surrogate = mp.Surrogate.fit(p, inputs, epochs=1, width=40)
    goal = torch.zeros(150, min(80, size))
    predicted, gradient = surrogate(p), surrogate.gradient(p, goal)
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for shift in (1, 7, 63, 64):
            rolled = p.roll(shift, 0)
            assert torch.equal(surrogate(rolled), predicted.roll(shift, 0))
            assert torch.equal(surrogate.gradient(rolled, goal), gradient.roll(shift, 0))
    torch.set_num_threads(1)


def test_gradient_matches_autograd() -> None:
    p, x = linear_world(40)
    surrogate = mp.Surrogate.fit(p, x, epochs=5)
    goal = surrogate(p.flip(0))
    q = p[:3].clone().requires_grad_()
    state, inside = surrogate.state(), surrogate.inside(q)
    every = evaluate(state, inside.expand(surrogate.members, *inside.shape))[-1]
    recovered = every.mean(0)[:, : goal.shape[1]]
    assert torch.allclose(recovered, surrogate(p[:3]), rtol=1e-4, atol=1e-5)
    half = 0.5 * (recovered - goal[:3]).square().sum()
    (expected,) = torch.autograd.grad(half, q)
    with torch.inference_mode():
        assert torch.allclose(surrogate.gradient(p[:3], goal[:3]), expected, rtol=1e-4, atol=1e-5)


def test_outputs_and_inputs_must_pair_up() -> None:
    p, x = linear_world(10)
    with pytest.raises(ValueError, match="expected as many inputs as outputs"):
        mp.Surrogate.fit(p, x[:9])
    with pytest.raises(ValueError, match="expected epochs"):
        mp.Surrogate.fit(p, x, epochs=0)


def noisy(n: int, k: int, *, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of many classes, and inputs of which only five directions show in the rows."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 40, generator=generator)
    weights = torch.zeros(40, k)
    weights[:5] = 3 * torch.randn(5, k, generator=torch.Generator().manual_seed(1))
    return torch.softmax(x @ weights / 5**0.5, 1), x


@pytest.mark.whole_fits
def test_where_a_class_has_few_rows_they_are_not_memorised() -> None:
    p, x = noisy(400, 200, seed=2)
    fresh, hidden = noisy(2000, 200, seed=3)

    def above(one: mp.Surrogate) -> float:
        """The error above that of the 35 directions of 40 that do not show."""
        return float((one.reconstruct(fresh) - hidden).square().mean()) - 35 / 40

    assert above(mp.Surrogate.fit(p, x)) < 0.5 * above(mp.Surrogate.fit(p, x, epochs=30))


def test_where_rows_are_many_or_a_handful_all_passes_are_made() -> None:
    for n, k in ((400, 50), (60, 200)):
        p, x = noisy(n, k, seed=2)
        one, other = mp.Surrogate.fit(p, x), mp.Surrogate.fit(p, x, epochs=30)
        assert torch.equal(one.weight0, other.weight0)


def test_the_share_that_is_done_grows_to_one_while_passes_are_chosen() -> None:
    shares: list[float] = []
    mp.Surrogate.fit(*noisy(80, 40, seed=2), progress=shares.append)
    assert shares == sorted(shares) and shares[-1] == 1.0 and shares[0] < 0.2
