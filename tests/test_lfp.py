"""LFP: how many rows flip, which ones, to which label, and what is left of the vector."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from distributions import draw
from torch import Tensor
from worlds import world

import mipoison as mp
from mipoison.defenses.lfp import margins, runner_up, surrogate_worst
from mipoison.reference import label_of

K = 6
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


@pytest.fixture(scope="module")
def surrogate() -> mp.Surrogate:
    return mp.Surrogate.fit(*world(200, K, 8))


def flipped(p: Tensor, q: Tensor) -> Tensor:
    """Rows served under another label."""
    return label_of(p) != label_of(q)


# How many rows, and which.


@pytest.mark.parametrize("rate", [0.01, 0.3])
@pytest.mark.parametrize("targets", ["random", "runner_up"])
def test_the_rate_of_random_rows_is_binomial(rate: float, targets: str) -> None:
    n = 20_000
    p = draw("plain", n, K).float()
    assert len(torch.unique(p, dim=0)) == n
    for key in range(3):
        count = int(flipped(p, mp.LFP(rate=rate, targets=targets, key=key)(p)).sum())
        # Five standard deviations.
        assert abs(count - n * rate) < 5 * (n * rate * (1 - rate)) ** 0.5


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_rate_of_margin_rows_is_exact_on_the_fitting_rows(
    rate: float, dtype: torch.dtype
) -> None:
    p = draw("plain", 1000, K).to(dtype)
    # Repeating rows changes nothing: the rate is over distinct ones.
    repeated = torch.cat((p, p[:100], p[:100]))
    for rows in (p, repeated):
        defense = mp.LFP.fit(rows, rate=rate, targets="runner_up", key=1)
        assert int(flipped(p, defense(p)).sum()) == 1000 * rate


@pytest.mark.parametrize("targets", ["random", "runner_up", "surrogate"])
def test_the_rows_of_lowest_margin_flip(targets: str) -> None:
    p, x = world(300, K, 4)
    chosen = flipped(p, mp.LFP.fit(p, x, rate=0.2, targets=targets, key=1)(p))
    lead = margins(p.double())
    assert int(chosen.sum()) == 60
    assert float(lead[chosen].max()) < float(lead[~chosen].min())
    top = p.double().sort(1).values
    assert torch.equal(lead, top[:, -1] - top[:, -2])


def test_unseen_rows_flip_at_about_the_rate() -> None:
    defense = mp.LFP.fit(draw("plain", 2000, K).float(), rate=0.1, targets="random", key=1)
    p = draw("plain", 5000, K, seed=1).float()
    assert float(flipped(p, defense(p)).double().mean()) == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize("rows", ["random", "margin"])
@pytest.mark.parametrize("targets", ["random", "runner_up", "surrogate"])
def test_none_and_all(rows: str, targets: str) -> None:
    p, x = world(150, K, 4)
    for rate in (0.0, 1.0):
        defense = mp.LFP.fit(p, x, rate=rate, rows=rows, targets=targets, key=1)
        q = defense(p)
        assert (flipped(p, q) == bool(rate)).all()
        if rate == 0.0:
            assert float((q - p).abs().max()) < 2e-7


def test_a_rate_that_rounds_to_no_row_flips_none() -> None:
    defense = mp.LFP.fit(draw("plain", 20, K).float(), rate=0.01, targets="random", key=1)
    # Their margin is zero, the lowest there is.
    ties = torch.full((4, K), 1 / K)
    assert not flipped(ties, defense(ties)).any()


@pytest.mark.parametrize("rows", ["random", "margin"])
@pytest.mark.parametrize("targets", ["random", "runner_up", "surrogate"])
def test_repeated_rows_get_the_same_answer(rows: str, targets: str) -> None:
    p, x = world(80, K, 4)
    defense = mp.LFP.fit(p, x, rate=0.4, rows=rows, targets=targets, key=1)
    q = defense(p)
    again = defense(torch.cat((p.roll(7, 0), p[:5], p)))
    assert torch.equal(again[-80:], q) and torch.equal(again[80:85], q[:5])
    assert torch.equal(again[:80], q.roll(7, 0))


def test_another_key_chooses_other_rows() -> None:
    p = draw("plain", 4000, K).float()
    first, second = (flipped(p, mp.LFP(rate=0.5, key=key)(p)) for key in (1, 2))
    # Independent choices agree in half of the rows.
    assert float((first == second).double().mean()) == pytest.approx(0.5, abs=0.05)


# The new label.


@pytest.mark.parametrize("rows", ["random", "margin"])
def test_the_runner_up_is_the_second_largest(rows: str) -> None:
    p = draw("plain", 200, K).float()
    q = mp.LFP.fit(p, rate=1.0, rows=rows, targets="runner_up", key=1)(p)
    assert torch.equal(label_of(q), p.sort(1).indices[:, -2])
    # Of equal ones the lowest index that is not the label.
    assert runner_up(torch.tensor([[0.3, 0.4, 0.3], [0.5, 0.0, 0.5]])).tolist() == [0, 2]


@pytest.mark.parametrize("rows", ["random", "margin"])
def test_a_random_label_is_uniform_over_the_others(rows: str) -> None:
    p = draw("plain", 10_000, K).float()
    q = mp.LFP.fit(p, rate=1.0, rows=rows, targets="random", key=1)(p)
    offset = (label_of(q) - label_of(p)) % K
    counts = torch.bincount(offset, minlength=K)
    assert int(counts[0]) == 0
    # χ² with four degrees of freedom: P(> 23.5) = 1e-4.
    expected = 10_000 / (K - 1)
    assert float(((counts[1:] - expected).square() / expected).sum()) < 23.5


@pytest.mark.parametrize("rows", ["random", "margin"])
def test_the_surrogates_label_is_the_worst_by_brute_force(rows: str) -> None:
    p, x = world(100, K, 4)
    defense = mp.LFP.fit(p, x, rate=1.0, rows=rows, targets="surrogate", key=1)
    assert defense.surrogate is not None
    served = label_of(defense(p))
    clean = defense.surrogate(p)
    for i in range(30):
        label, errors = int(label_of(p[i : i + 1])), {}
        for new in set(range(K)) - {label}:
            swapped = p[i].clone()
            swapped[label], swapped[new] = p[i, new], p[i, label]
            errors[new] = float((defense.surrogate(swapped[None]) - clean[i]).square().sum())
        worst = max(errors.values())
        assert errors[int(served[i])] >= worst * (1 - 1e-4)


def test_one_call_with_a_surrogate_and_without(surrogate: mp.Surrogate) -> None:
    p, _ = world(200, K, seed=3)
    q = mp.lfp(p, surrogate, rate=0.3, key=1)
    chosen = flipped(p, q)
    assert 30 < int(chosen.sum()) < 90
    assert torch.equal(label_of(q)[chosen], surrogate_worst(p[chosen], surrogate))
    plain = mp.lfp(p, rate=0.3, key=1)
    assert torch.equal(flipped(p, plain), chosen)
    assert not torch.equal(label_of(plain), label_of(q))
    assert torch.equal(plain, mp.LFP(rate=0.3, key=1)(p))


# The vectors.


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("distribution", ["plain", "peaked", "zeros", "one-hot", "ties"])
def test_a_swap_keeps_the_entries(distribution: str, dtype: torch.dtype) -> None:
    p = draw(distribution, 300, K).to(dtype)
    defense = mp.LFP(rate=1.0, key=1)
    q = defense(p)
    exact = p.double() / p.double().sum(1, keepdim=True)
    difference = q.double().sort(1).values - exact.sort(1).values
    # Rounding, and an ulp where the label has to be strict.
    assert float(difference.abs().max()) <= 1.5 * torch.finfo(dtype).eps
    assert flipped(p, q).all()
    # All but the two that change places stay where they are.
    stay = (torch.arange(K) != label_of(p)[:, None]) & (torch.arange(K) != label_of(q)[:, None])
    assert float((q.double() - exact)[stay].abs().max()) <= torch.finfo(dtype).eps / 2


@pytest.mark.parametrize("dtype", DTYPES)
def test_style_project_is_the_nearest_vector(dtype: torch.dtype) -> None:
    p = draw("plain", 200, K).to(dtype)
    q = mp.LFP(rate=1.0, targets="runner_up", style="project", key=1)(p)
    exact = p.double() / p.double().sum(1, keepdim=True)
    nearest = mp.project(exact, label=runner_up(p))
    assert float((q.double() - nearest).abs().max()) <= 2 * torch.finfo(dtype).eps
    assert torch.equal(label_of(q), runner_up(p))
    swapped = mp.LFP(rate=1.0, targets="runner_up", key=1)(p)
    assert not torch.equal(q, swapped)


# Saving, kinds, errors.


@pytest.mark.parametrize("rows", ["random", "margin"])
@pytest.mark.parametrize("targets", ["random", "runner_up", "surrogate"])
def test_a_saved_defense_answers_the_same_bits(rows: str, targets: str, tmp_path: Path) -> None:
    p, x = world(100, K, 2, 3)
    path = tmp_path / "lfp.safetensors"
    fit = {"rate": 1 / 3, "rows": rows, "targets": targets, "style": "project"}
    defense = mp.LFP.fit(p, x, key=1, on_invalid="label", **fit)
    defense.save(path)
    loaded = mp.LFP.load(path, key=1)
    assert torch.equal(loaded(p), defense(p))
    assert {name: getattr(loaded, name) for name in fit} == fit
    assert loaded.threshold == defense.threshold and loaded.on_invalid == "label"
    if (rows, targets) not in {("margin", "runner_up"), ("margin", "surrogate")}:
        assert not torch.equal(mp.LFP.load(path, key=2)(p), defense(p))


def test_another_file_is_refused(tmp_path: Path) -> None:
    mp.LPA.fit(*world(20, K, 2), objective="direction").save(tmp_path / "lpa.safetensors")
    with pytest.raises(ValueError, match=r"expected a file saved by LFP\.save, got LPA"):
        mp.LFP.load(tmp_path / "lpa.safetensors")


@pytest.mark.parametrize("targets", ["random", "runner_up", "surrogate"])
def test_numpy_no_rows_and_two_classes(targets: str) -> None:
    p, x = world(60, 2, 4)
    defense = mp.LFP.fit(p.numpy(), x.numpy(), rate=0.5, targets=targets, key=1)
    q = defense(p.numpy())
    assert isinstance(q, np.ndarray) and q.dtype == np.float32
    assert np.array_equal(q, defense(p).numpy()) and int(flipped(p, defense(p)).sum()) == 30
    assert defense(p[:0]).shape == (0, 2)


def test_what_a_choice_needs() -> None:
    p, _ = world(20, K)
    with pytest.raises(ValueError, match="expected inputs with targets='surrogate'"):
        mp.LFP.fit(p)
    with pytest.raises(ValueError, match="expected a threshold with rows='margin'"):
        mp.LFP(rows="margin")
    for wrong in ({"rows": "first"}, {"targets": "worst"}, {"style": "mix"}, {"rate": 1.1}):
        with pytest.raises(ValueError, match=f"expected {next(iter(wrong))}"):
            mp.LFP(**wrong)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=f"expected {next(iter(wrong))}"):
            mp.LFP.fit(p, torch.rand(20, 2), **wrong)  # type: ignore[arg-type]


def test_repr_tells_the_settings_and_not_the_key() -> None:
    defense = mp.LFP(rate=0.25, key=987_654_321)
    shown = repr(defense)
    assert "rate=0.25, rows='random', targets='random'" in shown
    assert not any(str(word) in shown for word in (987_654_321, *defense._key.words))
