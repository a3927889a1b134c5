"""Cells hold the altered copies of a row and not the other rows of its label, however confident the classifier."""

import pytest
import torch
from torch import Tensor

from mipoison.defenses.lpa.key_cells import KeyCells
from mipoison.keys import Key

KEY = Key(1)


def logits(n: int = 1000, k: int = 10) -> Tensor:
    """A classifier of this temperature shows confidences of every size."""
    drawn = torch.randn((n, k), generator=torch.Generator().manual_seed(0))
    return 8 * drawn


def served(scores: Tensor, temperature: float) -> Tensor:
    return torch.softmax(scores.double() / temperature, -1).to(torch.float32)


def words(p: Tensor, cells: KeyCells | None = None) -> Tensor:
    return (KeyCells.of(p) if cells is None else cells).words(p, 4, key=KEY)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0, 10.0])
def test_key_cells_are_invariant_to_temperature(temperature: float) -> None:
    # Between rounding dust and cells' borders a few rows differ.
    same = words(served(logits(), temperature)) == words(served(logits(), 2.0))
    assert float(same.all(1).double().mean()) > 0.98


@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_altered_copies_share_key_cells_and_other_rows_do_not(temperature: float) -> None:
    scores = logits()
    near = scores + 0.02 * torch.randn(scores.shape, generator=torch.Generator().manual_seed(1))
    p = served(scores, temperature)
    cells = KeyCells.of(p)
    own, copies = words(p, cells), words(served(near, temperature), cells)
    assert float((own == copies).all(1).double().mean()) > 0.9
    label = p.argmax(1)
    rows = torch.cat((own, label.unsqueeze(1)), 1)
    _, count = rows.unique(dim=0, return_counts=True)
    assert float((count.double().square().sum()) / len(rows)) < 2.5


def test_bits_do_not_depend_on_the_batch() -> None:
    p = served(logits(300), 1.0)
    cells = KeyCells.of(p)
    whole = words(p, cells)
    for part in (p[:1], p[17:18], p[3:260]):
        start = int((p == part[0]).all(1).nonzero()[0])
        assert torch.equal(words(part, cells), whole[start : start + len(part)])


@pytest.mark.parametrize(
    "p",
    [
        torch.eye(3).repeat(4, 1),
        torch.full((5, 4), 0.25),
        torch.tensor([[1.0, 0.0], [0.6, 0.4], [0.5, 0.5]]),
        served(logits(20, 1000), 5.0),
    ],
    ids=["one-hot", "uniform", "two classes", "1000 classes"],
)
def test_key_cells_of_extreme_rows(p: Tensor) -> None:
    cells = KeyCells.of(p)
    assert 0 < cells.temperature < float("inf")
    assert words(p, cells).shape == (len(p), 4)


def test_grid_zero_separates_rows_up_to_last_bits() -> None:
    p = served(logits(50), 1.0)
    last = p.clone()
    last[:, 0] = torch.nextafter(last[:, 0], torch.tensor(2.0))
    finest = KeyCells(0.0, 3.0)
    assert (words(p, finest) == words(last, finest)).all()
    # Two octaves of the smallest entries alone make another row.
    other = torch.where(p < p.median(1, keepdim=True).values, p / 4, p)
    assert not (words(p, finest) == words(other, finest)).all(1).any()
