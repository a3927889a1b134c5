"""A share of many rows."""

import torch

import mipoison as mp
from mipoison.defenses.lpa.some import some_of

CPU = torch.device("cpu")


def test_few_rows_are_all_looked_at() -> None:
    assert some_of(7, 7, CPU).tolist() == list(range(7))


def test_a_share_is_in_order_without_repetition_and_always_the_same() -> None:
    seen = some_of(1000, 100, CPU)
    assert len(seen.unique()) == 100 and bool((seen.diff() > 0).all())
    assert torch.equal(seen, some_of(1000, 100, CPU))


def test_rows_of_two_kinds_in_turn_are_both_looked_at() -> None:
    # Every second row would be of one kind.
    assert 0.4 < float((some_of(2000, 1000, CPU) % 2).double().mean()) < 0.6


def test_a_price_is_met_where_rows_of_two_kinds_take_turns() -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(1024, 8, generator=generator)
    logits = (x - 0.5) @ torch.randn(8, 4, generator=generator)
    logits[::2] *= 12
    p = logits.softmax(1)
    fitted = mp.LPA.fit(p, x, objective="decoy", budget=0.1, key=1)
    moved = float((fitted(p) - p).abs().sum(1).mean())
    assert abs(moved - 0.1) < 0.01
