"""Training ends by itself, network by network, with the weights of the best pass."""

import pytest
import torch

from mipoison.eval.adversaries.averaging import Averaging
from mipoison.eval.adversaries.base import Attack
from mipoison.eval.adversaries.mlp import MLP


def trained(errors, limits=(9, 9), patience=2, variance=1.0):
    """Two networks of one number each that step down a parabola, and what was kept after each pass."""
    parameters = [torch.ones(2, 1).requires_grad_()]
    training = Averaging(parameters, rate=0.1, limits=limits, patience=patience, variance=variance)
    averages, made = [], 0
    while len(training.active):
        training.step(training.parameters[0].square().sum())
        everyone = torch.full((2,), torch.nan)
        everyone[training.active] = training.averages[0].flatten()
        averages.append(everyone)
        left = None if errors is None else errors[made][training.active]
        training.end_pass(left)
        made += 1
    return training, torch.stack(averages)


def test_each_network_ends_after_its_best_pass():
    errors = torch.tensor([[5.0, 5.0], [4.0, 6.0], [3.0, 4.99999], [3.5, 1.0], [3.1, 1.0]])
    # What counts as smaller is a share of the variance of what is learnt, whatever its unit is.
    small, _ = trained(1e-8 * errors, variance=1e-8)
    assert small.passes == [3, 1]
    training, averages = trained(errors)
    # The second had no smaller error for two passes before it fell.
    assert training.passes == [3, 1] and len(averages) == 5
    assert training.best[0].flatten().tolist() == [float(averages[2, 0]), float(averages[0, 1])]
    assert averages[3:, 1].isnan().all()


def test_limits_end_training_and_no_errors_keep_the_last_pass():
    training, averages = trained(None, limits=(2, 4))
    assert training.passes == [2, 4] and len(averages) == 4
    assert training.best[0].flatten().tolist() == [float(averages[1, 0]), float(averages[3, 1])]


def test_those_that_go_on_do_so_as_if_alone():
    alone, _ = trained(None, limits=(4, 4))
    together, _ = trained(None, limits=(2, 4))
    assert torch.equal(alone.best[0][1], together.best[0][1])


@pytest.mark.parametrize("held", [True, False])
def test_a_network_that_diverges_is_told(held):
    rows = torch.eye(4).repeat(2, 1), torch.eye(8, 12)
    network = MLP(width=4, epochs=3, learning_rate=1e30)
    with pytest.warns(RuntimeWarning, match="from 1 of 1 networks, .* a learning_rate below 1e.30"):
        network.fit(*rows, held_out=rows if held else None)


def test_errors_that_are_no_numbers_are_never_the_smallest():
    errors = {"lost": torch.full((1, 3), torch.nan), "made": torch.ones(1, 3)}
    attack = Attack({}, errors, {name: own.mean(1) for name, own in errors.items()}, {})
    assert attack.strongest(0) == attack.best_held_out(0) == "made"
