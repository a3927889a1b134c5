"""The denoiser undoes what can be undone, believes what was spared, and invents nothing."""

import pytest
import torch

from mipoison.eval.adversaries.denoiser import UNBOUNDED, Denoiser
from mipoison.eval.adversaries.mlp import MLP, PIXELS
from mipoison.eval.metrics import row_errors


@pytest.fixture(scope="module")
def world():
    """Vectors that tell their inputs: clean ones, inputs, and a network that inverts them."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand((1200, 6), generator=generator)
    clean = torch.softmax(3 * inputs @ torch.randn((6, 5), generator=generator), 1)
    inverter = MLP(kind="raw+log", width=64, epochs=30, seed=1).fit(clean[:900], inputs[:900])
    return clean, inputs, inverter


def denoiser_of(inverter, clean, seed=0, epochs=30):
    undo, spot = (
        MLP(kind="raw+log", width=96, epochs=epochs, span=span, seed=own)
        for own, span in ((seed, UNBOUNDED), (seed + 1, PIXELS))
    )
    return Denoiser(inverter, clean, undo, spot)


def error(world, defended):
    """On rows that nothing was trained on; defended [n, K]."""
    clean, inputs, inverter = world
    denoiser = denoiser_of(inverter, clean[:900], seed=2).fit(defended[:900], inputs[:900])
    return row_errors(denoiser.reconstruct(defended[900:]), inputs[900:])


def bare_error(world):
    clean, inputs, inverter = world
    return row_errors(inverter.reconstruct(clean[900:]), inputs[900:])


def test_a_map_that_can_be_undone_is(world):
    hot = torch.softmax(world[0].log() / 4, 1)
    swapped = hot.roll(1, dims=1)
    assert float(error(world, swapped).mean()) < 1.3 * float(bare_error(world).mean())


def test_rows_left_alone_are_believed(world):
    clean, *_ = world
    spared = torch.arange(len(clean)) % 8 == 0
    flat = torch.full_like(clean, 1 / clean.shape[1])
    defended = torch.where(spared.unsqueeze(1), clean, flat)
    left = spared[900:]
    errors, bare = error(world, defended), bare_error(world)
    assert float(errors[left].mean()) < 1.5 * float(bare[left].mean())
    assert float(errors[~left].mean()) > 3 * float(bare[~left].mean())


def test_what_is_recovered_is_no_farther_than_what_was_served(world):
    """Of noise that hardly moves a vector: what tells the rest is the served vector itself."""
    clean, inputs, inverter = world
    noise = 0.03 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    served = torch.softmax(clean.log() + noise, 1)
    denoiser = denoiser_of(inverter, clean[:900], epochs=5).fit(served[:900], inputs[:900])

    def apart(vectors):
        return float((vectors.log() - clean[900:].log()).square().mean().sqrt())

    assert apart(denoiser.denoise(served[900:])) < 1.1 * apart(served[900:])


def test_no_defense_is_inverted_as_it_is(world):
    assert float((error(world, world[0]) - bare_error(world)).abs().max()) < 1e-3


def test_systems_side_by_side_are_attacked_as_if_alone(world):
    clean, inputs, inverter = world
    systems = torch.stack((torch.softmax(clean.log() / 4, 1), clean))
    together = denoiser_of(inverter, clean[:900], epochs=2).fit(systems[:, :900], inputs[:900])
    answers = together.reconstruct(systems[:, 900:])
    for system, answer in zip(systems, answers, strict=True):
        alone = denoiser_of(inverter, clean[:900], epochs=2).fit(system[:900], inputs[:900])
        torch.testing.assert_close(alone.reconstruct(system[900:]), answer, rtol=0, atol=1e-4)
