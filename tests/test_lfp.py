"""LFP: how many rows flip, which ones, to which label, and what is left of the vector."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from distributions import draw
from later import later
from torch import Tensor
from worlds import world

import mipoison as mp
from mipoison.defenses.lfp import runner_up, surrogate_worst
from mipoison.defenses.lfp.selection import leaks, margins, pool
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


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.3])
@pytest.mark.parametrize(
    ("n", "distribution"), [(400, "plain"), *later((400, "peaked"), (3000, "plain"))]
)
def test_fresh_rows_flip_at_the_rate(n: int, distribution: str, rate: float) -> None:
    fresh = draw(distribution, 40_000, K, seed=99)
    fresh = torch.unique(fresh, dim=0)
    realised = []
    for seed in range(100, 112):
        held_out = draw(distribution, n, K, seed)
        defense = mp.LFP.fit(held_out, rate=rate, targets="runner_up", key=seed)
        realised.append(float(flipped(fresh, defense(fresh)).double().mean()))
        # What 40,000 rows tell of a rate, three standard deviations.
        chance = 3 * (rate / 40_000) ** 0.5
        assert abs(realised[-1] - rate) <= 0.2 * rate + chance
    mean = sum(realised) / len(realised)
    # The mean of twelve fits that spread by a fifteenth at most.
    assert abs(mean - rate) <= 3 * rate / 15 / 12**0.5 + chance


@pytest.mark.parametrize("rate", [0.05, 0.3])
def test_fresh_rows_flip_at_the_rate_by_leak(rate: float) -> None:
    fresh = draw("plain", 20_000, K, seed=99).float()
    for seed in range(100, 104):
        fit = {"rate": rate, "rows": "leak", "targets": "runner_up", "key": seed, "seed": seed}
        defense = mp.LFP.fit(*world(600, K, 8, seed=seed), **fit)
        realised = float(flipped(fresh, defense(fresh)).double().mean())
        assert abs(realised - rate) <= 0.2 * rate + 3 * (rate / 20_000) ** 0.5


def test_the_rate_counts_distinct_held_out_rows() -> None:
    p = draw("plain", 1000, K).float()
    repeated = torch.cat((p, p[:100], p[:100]))
    first, second = (mp.LFP.fit(x, rate=0.1, targets="runner_up", key=1) for x in (p, repeated))
    assert (first.threshold, first.share) == (second.threshold, second.share)


@pytest.mark.parametrize("targets", ["random", "runner_up", "surrogate"])
def test_the_rows_that_flip_are_of_low_margin(targets: str) -> None:
    p, x = world(900, K, 4)
    defense = mp.LFP.fit(p, x, rate=0.2, targets=targets, key=1)
    chosen, lead = flipped(p, defense(p)), margins(p.double())
    # 900 rows know a fifth well enough: they all flip.
    assert defense.share == pytest.approx(1, abs=0.01)
    assert 170 < int(chosen.sum()) <= 181
    assert float(lead[chosen].max()) < float(lead[~chosen].median()) / 2
    top = p.double().sort(1).values
    assert torch.equal(lead, top[:, -1] - top[:, -2])


def test_fewer_rows_widen_the_pool() -> None:
    shares = []
    for n in (50, 400, 4000):
        scores = torch.arange(n, dtype=torch.float64)
        threshold, share = pool(scores, 0.05, 1.0)
        # The scores are 0 to n − 1; the threshold lies between two of them.
        assert threshold % 1 == 0.5
        wide = math.ceil(threshold) / (n + 1)
        assert wide * share == pytest.approx(0.05)
        shares.append(share)
    assert shares == sorted(shares) and shares[-1] > 0.9
    assert pool(torch.zeros(5).double(), 0.3, 1.0) == (math.inf, 0.3)
    # Equal scores come and go together.
    assert pool(torch.zeros(4000).double(), 0.3, 1.0)[1] == pytest.approx(0.3, rel=1e-3)


def test_the_rows_that_flip_by_leak_tell_most() -> None:
    p, x = world(600, K, 8)
    fit = {"rate": 0.3, "rows": "leak", "targets": "runner_up"}
    defense = mp.LFP.fit(p, x, key=1, **fit)
    assert defense.surrogate is not None and defense.means is not None
    fresh = draw("plain", 3000, K, seed=9).float()
    leak = leaks(fresh, defense.surrogate, defense.means)
    chosen = flipped(fresh, defense(fresh))
    assert float(leak[chosen].min()) >= -float(defense.threshold or 0)
    assert float(leak[chosen].mean()) > 1.2 * float(leak.mean())


# The ceiling.


def test_max_rate_bounds_flips_of_any_traffic() -> None:
    held_out = draw("peaked", 2000, K)
    settings = {"rate": 0.02, "targets": "runner_up", "key": 1}
    free = mp.LFP.fit(held_out, **settings)
    bounded = mp.LFP.fit(held_out, max_rate=0.1, **settings)
    # Everything that an adversary sends is of low margin.
    traffic = draw("flat", 20_000, K).float()
    assert float(flipped(traffic, free(traffic)).double().mean()) > 0.15
    assert float(flipped(traffic, bounded(traffic)).double().mean()) < 0.1 + 3 * 0.0022
    fresh = draw("peaked", 20_000, K, seed=5)
    assert float(flipped(fresh, bounded(fresh)).double().mean()) == pytest.approx(0.02, rel=0.2)


def test_a_rate_above_the_ceiling_is_refused() -> None:
    p = draw("plain", 50, K).float()
    for call in (
        lambda: mp.LFP(rate=0.2, max_rate=0.1),
        lambda: mp.LFP.fit(p, rate=0.2, max_rate=0.1, targets="random"),
        lambda: mp.lfp(p, rate=0.2, max_rate=0.1),
    ):
        with pytest.raises(ValueError, match=r"expected rate <= max_rate=0\.1, got 0\.2"):
            call()
    with pytest.raises(ValueError, match=r"expected share <= max_rate=0\.1, got 1"):
        mp.LFP(rate=0.05, max_rate=0.1, rows="margin", threshold=0.3)
    with pytest.raises(ValueError, match=r"expected max_rate in \(0, 1\]"):
        mp.LFP(rate=0.0, max_rate=0.0)


# The audit.


def test_the_audit_counts_what_was_served() -> None:
    p = draw("plain", 500, K).float()
    defense = mp.LFP(rate=0.3, key=1, audit=True, on_invalid="label")
    assert defense.audit is not None and defense.audit.rate == 0.0
    q = defense(p)
    away = label_of(p)[flipped(p, q)]
    defense(p[:100].numpy())
    spoilt = p[:4].clone()
    spoilt[2] = math.nan
    defense(spoilt)
    valid = torch.cat((p, p[:100], p[[0, 1, 3]]))
    moved = flipped(valid, mp.LFP(rate=0.3, key=1)(valid))
    audit = defense.audit
    assert (audit.rows, audit.flipped) == (603, int(moved.sum()))
    counted = torch.bincount(label_of(valid)[moved], minlength=K)
    assert [audit.by_label[t] for t in range(K)] == counted.tolist()
    assert audit.rate == audit.flipped / 603 and len(away) > 100
    assert not any(isinstance(value, Tensor) for value in vars(audit).values())
    assert mp.LFP(rate=0.3, key=1).audit is None


@pytest.mark.parametrize("rows", ["random", "margin", "leak"])
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


@pytest.mark.parametrize("rows", ["random", "margin", "leak"])
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
    defense = mp.LFP(rate=1.0, margin=0.0, key=1)
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
    q = mp.LFP(rate=1.0, targets="runner_up", style="project", margin=0.0, key=1)(p)
    exact = p.double() / p.double().sum(1, keepdim=True)
    nearest = mp.project(exact, label=runner_up(p))
    assert float((q.double() - nearest).abs().max()) <= 2 * torch.finfo(dtype).eps
    assert torch.equal(label_of(q), runner_up(p))
    swapped = mp.LFP(rate=1.0, targets="runner_up", key=1)(p)
    assert not torch.equal(q, swapped)


# Saving, kinds, errors.


@pytest.mark.parametrize("rows", ["random", "margin", "leak"])
@pytest.mark.parametrize("targets", ["random", "runner_up", "surrogate"])
def test_a_saved_defense_answers_the_same_bits(rows: str, targets: str, tmp_path: Path) -> None:
    p, x = world(100, K, 2, 3)
    path = tmp_path / "lfp.safetensors"
    fit = {"rate": 1 / 3, "rows": rows, "targets": targets, "style": "project", "max_rate": 0.9}
    defense = mp.LFP.fit(p, x, key=1, on_invalid="label", **fit)
    defense.save(path)
    loaded = mp.LFP.load(path, key=1)
    assert torch.equal(loaded(p), defense(p))
    assert {name: getattr(loaded, name) for name in fit} == fit
    assert loaded.threshold == defense.threshold and loaded.on_invalid == "label"
    assert (loaded.share, loaded.max_rate) == (defense.share, 0.9)
    assert not torch.equal(mp.LFP.load(path, key=2)(p), defense(p))


def test_another_file_is_refused(tmp_path: Path) -> None:
    mp.LPA.fit(*world(20, K, 2), objective="direction").save(tmp_path / "lpa.safetensors")
    with pytest.raises(ValueError, match=r"expected a file saved by LFP\.save, got LPA"):
        mp.LFP.load(tmp_path / "lpa.safetensors", key=1)


@pytest.mark.parametrize("targets", ["random", "runner_up", "surrogate"])
def test_numpy_no_rows_and_two_classes(targets: str) -> None:
    p, x = world(60, 2, 4)
    defense = mp.LFP.fit(p.numpy(), x.numpy(), rate=0.5, targets=targets, key=1)
    q = defense(p.numpy())
    assert isinstance(q, np.ndarray) and q.dtype == np.float32
    assert np.array_equal(q, defense(p).numpy()) and 15 < int(flipped(p, defense(p)).sum()) < 45
    assert defense(p[:0]).shape == (0, 2)


def test_missing_and_needless_arguments_are_refused() -> None:
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
    assert "rate=0.25, rows='random', targets='random', max_rate=1" in shown
    assert not any(str(word) in shown for word in (987_654_321, *defense._key.words))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_flip_between_entries_an_ulp_apart_leads_by_the_margin_as_in_flip(
    dtype: torch.dtype,
) -> None:
    below = float(torch.tensor(0.5, dtype=dtype)) - torch.finfo(dtype).eps / 4
    p = torch.tensor([[0.5, below, 0.0]]).to(dtype)
    assert 0 < float(p[0, 0] - p[0, 1]) <= torch.finfo(dtype).eps / 2
    expected, labels = mp.flip(p, targets=[1], rate=1.0, key=1)
    q = mp.LFP(rate=1.0, targets="runner_up", key=1)(p)
    assert labels.tolist() == [1] and torch.equal(q, expected)
    assert float(q[0, 1] - q[0, 0]) >= 1e-3 - torch.finfo(dtype).eps
