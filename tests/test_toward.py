"""The baselines that move rows toward vectors of their label: swap, contract, Purifier."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from distributions import draw

import mipoison as mp
from mipoison.defenses import Contract, Purifier, Swap
from mipoison.reference import label_of

K = 6
KINDS: list[Any] = [Swap, Contract, Purifier]


@pytest.mark.parametrize("kind", KINDS)
def test_epsilon_caps_moves_and_zero_moves_nothing(kind: Any) -> None:
    outputs, p = draw("plain", 200, K).float(), draw("plain", 300, K, seed=5)
    for epsilon in (0.0, 0.05, 0.5):
        moved = (kind.fit(outputs, epsilon=epsilon)(p) - p).abs().sum(1)
        assert float(moved.max()) <= epsilon + 2e-7
        assert float(moved.median()) > min(0.5 * epsilon, 0.1) or epsilon == 0.0


def test_full_swap_answers_with_bank_vectors_of_the_label() -> None:
    outputs, p = draw("plain", 100, K).float(), draw("plain", 200, K, seed=5).float()
    q = Swap.fit(outputs, epsilon=2.0, key=1)(p)
    nearest = torch.cdist(q.double(), outputs.double(), p=1).min(1)
    assert float(nearest.values.max()) < 1e-5
    assert torch.equal(label_of(outputs)[nearest.indices], label_of(p))
    # Several vectors of each label are in use.
    assert len(nearest.indices.unique()) > 40


def test_near_copies_swap_alike_on_the_grid() -> None:
    outputs = draw("plain", 100, K).float()
    p = torch.full((1, K), 0.1)
    p[0, 2] = 0.5
    near = p + 1e-3 * torch.tensor([[1.0, -1.0, 0.0, 0.0, 0.0, 0.0]])
    # The grid's cells are centered on multiples of their width.
    coarse, exact = (Swap.fit(outputs, epsilon=2.0, grid=grid, key=1) for grid in (0.2, 0.0))
    p, near = p + 0.02 * (p == 0.1), near + 0.02 * (p == 0.1)
    p[0, 2], near[0, 2] = 0.4, 0.4
    assert torch.equal(coarse(p), coarse(near))
    different = [
        not torch.equal(
            Swap(exact.bank, epsilon=2.0, grid=0.0, key=k)(p),
            Swap(exact.bank, epsilon=2.0, grid=0.0, key=k)(near),
        )
        for k in range(10)
    ]
    assert sum(different) >= 5


@pytest.mark.parametrize("center", ["median", "mean"])
def test_full_contraction_gives_one_vector_for_each_label(center: str) -> None:
    outputs, p = draw("plain", 400, K), draw("plain", 200, K, seed=5)
    q = Contract.fit(outputs, center=center, epsilon=2.0)(p)
    for label in label_of(p).unique():
        own = outputs[label_of(outputs) == label]
        middle = own.mean(0) if center == "mean" else own.quantile(0.5, dim=0)
        expected = middle / middle.sum()
        assert int(expected.argmax()) == int(label)
        answers = q[label_of(p) == label]
        assert float((answers - expected).abs().max()) < 1e-6


def test_labels_without_rows_have_a_center() -> None:
    outputs = draw("plain", 100, K)
    defense = Contract.fit(outputs[label_of(outputs) != 2], epsilon=2.0)
    answer = defense(torch.eye(K)[2:3])
    assert int(answer.argmax()) == 2 and float(answer.max()) == pytest.approx(0.5 + 0.5 / K)


def test_purified_vectors_are_close_and_less_informative() -> None:
    outputs, p = draw("plain", 1000, K).float(), draw("plain", 500, K, seed=5).float()
    q = Purifier.fit(outputs, key=1)(p)
    moved = float((q - p).abs().sum(1).mean())
    means = torch.stack([outputs[label_of(outputs) == t].mean(0) for t in range(K)])
    # Nearer to the row than what the label alone tells.
    assert 0.01 < moved < 0.8 * float((means[label_of(p)] - p).abs().sum(1).mean())
    strict = Purifier.fit(outputs, key=1, divergence=10.0)(p)
    spread = [float(x[label_of(p) == 1].std(0).mean()) for x in (q, strict)]
    # A code that costs much says nothing beyond the label.
    assert spread[1] < 0.2 * spread[0]


def test_purifier_is_a_function_of_key_row_and_seed() -> None:
    outputs, p = draw("plain", 200, K).float(), draw("plain", 70, K, seed=5).float()
    torch.manual_seed(0)
    first = Purifier.fit(outputs, epochs=3, key=1, seed=4)
    torch.manual_seed(1)
    again = Purifier.fit(outputs, epochs=3, key=1, seed=4)
    assert torch.equal(first(p), again(p)) and torch.equal(first(p.flip(0)).flip(0), first(p))
    other = Purifier(first.reformer, key=2)
    assert not torch.equal(first(p), other(p))
    assert not torch.equal(first(p), Purifier.fit(outputs, epochs=3, key=1, seed=5)(p))
    with torch.inference_mode():
        assert torch.equal(Purifier.fit(outputs, epochs=3, key=1, seed=4)(p), first(p))
    assert torch.equal(first.half()(p), first(p))


@pytest.mark.parametrize("kind", KINDS)
def test_settings_and_classes_are_checked(kind: Any) -> None:
    outputs = draw("plain", 50, K).float()
    with pytest.raises(ValueError, match=r"expected epsilon in \[0, 2\]"):
        kind.fit(outputs, epsilon=2.1)
    with pytest.raises(ValueError, match="K=6 classes, as fitted, got K=7"):
        kind.fit(outputs)(draw("plain", 3, 7))
    with pytest.raises(ValueError, match="expected outputs to be probability vectors"):
        kind.fit(outputs * 2)
    assert kind.fit(outputs)(outputs[:0]).shape == (0, K)
    secret = mp.Key(987_654_321)
    if kind is not Contract:
        shown = repr(kind.fit(outputs, key=secret))
        assert not any(str(word) in shown for word in (987_654_321, *secret.words))


def test_wrong_choices_are_refused() -> None:
    outputs = draw("plain", 50, K).float()
    with pytest.raises(ValueError, match="expected style to be one of"):
        Swap.fit(outputs, style="curved")
    with pytest.raises(ValueError, match="expected center to be one of"):
        Contract.fit(outputs, center="mode")
    with pytest.raises(ValueError, match=r"use Contract\.fit"):
        Contract(outputs[:K])
    for name in ("latent", "width", "epochs"):
        with pytest.raises(ValueError, match=f"expected {name} to be an int >= 1"):
            Purifier.fit(outputs, **{name: 0})
