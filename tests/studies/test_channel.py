"""The best channel, where it is known, and the bound on all channels."""

import pytest
import torch
from channel import best_channel, components, frontier, recovered

TWO = torch.tensor([[0.75, 0.25], [0.5, 0.5]]).double()


@pytest.mark.parametrize("price", [1.0, 2.0, 6.0])
def test_two_rows_are_swapped_as_often_as_pays(price):
    # Swapped with a probability of x, they hide 4x - 4x² each and move by x times their distance, a half.
    swapped = (4 - price / 2) / 8
    found = best_channel(TWO, torch.tensor([[1.0], [-1.0]]).double(), TWO, price, steps=2000)

    assert found.moved == pytest.approx(2 * swapped * 0.5, abs=1e-4)
    assert found.hidden == pytest.approx(2 * (4 * swapped - 4 * swapped**2), abs=1e-4)
    assert found.bound == pytest.approx(found.hidden - price * found.moved, abs=1e-3)


def test_no_channel_hides_more_than_the_bound():
    generator = torch.Generator().manual_seed(1)
    p = torch.randn(60, 4, generator=generator).softmax(1)
    told = torch.randn(60, 3, generator=generator)
    best = {price: frontier(p, told, price) for price in (0.5, 2.0, 8.0)}
    for found in best.values():
        assert 0 <= found.hidden <= 1 + 1e-9
        # The bound of every price holds for the channels of all.
        for price, other in best.items():
            assert found.hidden <= other.bound + price * found.moved + 1e-9


def test_labels_alone_hide_all_that_they_leave_open():
    p = torch.randn(60, 4, generator=torch.Generator().manual_seed(2)).softmax(1)
    told = torch.randn(60, 3, generator=torch.Generator().manual_seed(3))
    assert frontier(p, told, 0.0).hidden == pytest.approx(1, abs=1e-6)


def test_what_a_row_tells_is_learned_from_others():
    generator = torch.Generator().manual_seed(4)
    p = torch.randn(40, 4, generator=generator).softmax(1)
    inputs = torch.rand(40, 6, generator=generator)
    told = recovered(p, inputs, epochs=2, seed=0)
    first = torch.randperm(40, generator=torch.Generator().manual_seed(0))[:10]
    inputs[first] = 1 - inputs[first]
    again = recovered(p, inputs, epochs=2, seed=0)

    assert torch.equal(told[first], again[first])
    assert (told - again).abs().sum(1).gt(0).sum() == 30


def test_components_keep_distances():
    told = torch.rand(30, 6, generator=torch.Generator().manual_seed(5))
    apart = torch.cdist(told.double(), told.double())
    assert torch.cdist(components(told), components(told)) == pytest.approx(apart, abs=1e-6)
