"""What networks read: no value that they never saw lies further away than they can be asked about."""

import pytest
import torch

from mipoison.nn import features
from mipoison.standards import Standardizer, feature_standards


def of_many_classes(rows: int = 400, k: int = 50) -> torch.Tensor:
    """Rows of which each has a label of the first ten classes, and the others hardly vary."""
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(rows, k, generator=generator)
    logits[torch.arange(rows), torch.arange(rows) % 10] += 8
    return logits.softmax(1)


def test_an_entry_that_hardly_varies_is_not_blown_up() -> None:
    p = of_many_classes()
    mean, scale = feature_standards(features(p), 50)
    # A row of a class that never came: far below the thousands of deviations of its own entry.
    fresh = torch.full((1, 50), 0.4 / 49)
    fresh[0, -1] = 0.6
    away = (features(fresh) - mean) / scale
    assert float((fresh[0, -1] - p[:, -1].mean()) / p[:, -1].std()) > 100
    assert float(away.abs().max()) < 12


@pytest.mark.parametrize("k", [3, 10])
def test_entries_that_vary_alike_have_their_own_deviation(k: int) -> None:
    p = torch.randn(400, k, generator=torch.Generator().manual_seed(2)).mul(2).softmax(1)
    x = features(p)
    mean, scale = feature_standards(x, k)
    assert torch.equal(mean, x.mean(0))
    assert torch.equal(scale[: 2 * k], x.std(0)[: 2 * k])
    assert bool((scale[2 * k :] == 1e-6).all())


def test_what_never_varied_tells_nothing_and_what_lies_far_is_cut() -> None:
    seen = torch.tensor([[[1.0, 5.0, 0.0], [3.0, 5.0, 1.0]]])
    standards = Standardizer.of(seen)
    told = standards.apply(torch.tensor([[[2.0, 9.0, 1e9]]]))
    assert told.tolist() == [[[0.0, 0.0, 8.0]]]
