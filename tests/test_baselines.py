"""The baselines: label-only, rounding, noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from distributions import DISTRIBUTIONS, draw
from torch import Tensor

import mipoison as mp
from mipoison.defenses import Defense, GaussianNoise, LabelOnly, LaplaceNoise, Rounding
from mipoison.random import uniforms
from mipoison.reference import label_of

K = 10
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
ALL: list[Defense] = [
    LabelOnly(),
    Rounding(1),
    Rounding(3),
    LaplaceNoise(scale=0.05, key=1),
    GaussianNoise(scale=0.05, key=1),
]


def name_of(defense: Defense) -> str:
    return repr(defense)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("defense", ALL, ids=name_of)
def test_every_answer_is_a_probability_vector_of_the_label(
    defense: Defense, dtype: torch.dtype
) -> None:
    p = torch.cat([draw(d, 100, K) for d in DISTRIBUTIONS]).to(dtype)
    q, label = defense(p), label_of(p)[:, None]
    assert q.dtype == dtype
    exact = q.double()
    assert (exact >= 0).all()
    assert float((exact.sum(1) - 1).abs().max()) <= max(1e-6, K * torch.finfo(dtype).eps / 2)
    assert (exact.gather(1, label) > exact.scatter(1, label, -1.0)).all()


@pytest.mark.parametrize("defense", ALL, ids=name_of)
def test_numpy_and_no_rows(defense: Defense) -> None:
    p = draw("plain", 30, K)
    for kind in (np.float16, np.float32, np.float64):
        rows = p.numpy().astype(kind)
        q = defense(rows)
        assert isinstance(q, np.ndarray) and q.dtype == kind
        assert np.array_equal(q, defense(torch.from_numpy(rows)).numpy())
    assert defense(p[:0]).shape == (0, K)


def test_names() -> None:
    names = ["label-only", "rounding", "rounding", "Laplace noise", "Gaussian noise"]
    assert [defense.name for defense in ALL] == names


# Label-only.


@pytest.mark.parametrize("dtype", DTYPES)
def test_label_only_is_one_hot(dtype: torch.dtype) -> None:
    p = torch.tensor([[0.2, 0.5, 0.3], [0.5, 0.0, 0.5], [0.25, 0.375, 0.375]], dtype=dtype)
    expected = torch.eye(3, dtype=dtype)[[1, 0, 1]]
    assert torch.equal(LabelOnly()(p), expected)


# Rounding.


@pytest.mark.parametrize("decimals", [0, 1, 2, 5])
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_rounding_agrees_with_numpy(distribution: str, decimals: int) -> None:
    p = draw(distribution, 300, K).float()
    rounded = np.round(p.numpy(), decimals).astype(np.float64)
    something = rounded.sum(1) > 0
    expected = rounded[something] / rounded[something].sum(1, keepdims=True)
    # (A margin moves rows that lead by little.)
    q = Rounding(decimals, margin=0.0)(p).double().numpy()
    assert np.abs(q[something] - expected).max(initial=0.0) < 2e-7
    hot = np.eye(K)[label_of(p).numpy()]
    assert np.array_equal(q[~something], hot[~something])
    assert something.all() or decimals == 0


def test_a_tie_is_broken_for_the_rows_own_label() -> None:
    p = torch.tensor([[0.26, 0.34, 0.33, 0.07], [0.34, 0.33, 0.26, 0.07]])
    q = Rounding(1, margin=0.0)(p)
    assert label_of(q).tolist() == [1, 0]
    assert (q - torch.tensor([[3, 3, 3, 1], [3, 3, 3, 1]]) / 10).abs().max() < 1e-7
    assert float(q[0, 1]) > float(q[0, 0]) == float(q[0, 2])


def test_a_row_that_rounds_to_zero_is_answered_with_its_label() -> None:
    p = torch.full((1, 30), 0.03)
    p[0, 17] = 1 - 29 * 0.03
    p = torch.cat((p, torch.full((1, 30), 1 / 30)))
    p[1, 5] += 1e-6
    assert Rounding(1)(p).tolist()[1] == torch.eye(30)[5].tolist()
    assert Rounding(2)(p)[1].unique().numel() == 2


def test_decimals_are_a_whole_number() -> None:
    for wrong in (-1, 1.0, True, "1", None):
        with pytest.raises(ValueError, match="expected decimals to be an int >= 0"):
            Rounding(wrong)  # type: ignore[arg-type]


# Noise.

KINDS = [LaplaceNoise, GaussianNoise]


@pytest.mark.parametrize("kind", KINDS)
def test_quantiles_have_the_right_moments(kind: type[LaplaceNoise]) -> None:
    n = 1_000_000
    u = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    x = kind.quantile(u)
    assert (x.diff() > 0).all() and abs(float(x.mean())) < 1e-9
    assert torch.allclose(x, -x.flip(0), atol=1e-9)
    if kind is LaplaceNoise:
        assert float(x.abs().mean()) == pytest.approx(1, abs=1e-4)
        assert float(kind.quantile(torch.tensor(0.75).double())) == pytest.approx(math.log(2))
    else:
        assert float(x.std()) == pytest.approx(1, abs=1e-3)
        assert float(kind.quantile(torch.tensor(0.975).double())) == pytest.approx(1.959963985)
    ends = kind.quantile(uniforms(torch.tensor([0, 2**32 - 1])))
    assert torch.isfinite(ends).all() and float(ends[0]) == -float(ends[1]) < -6


@pytest.mark.parametrize("kind", KINDS)
def test_the_noise_has_mean_zero_and_the_right_scale(kind: type[LaplaceNoise]) -> None:
    p = draw("plain", 20_000, K)
    noise = kind.quantile(uniforms(mp.row_bits(p, key=1, words=K)))
    size = noise.abs().mean() if kind is LaplaceNoise else noise.std()
    # 200,000 draws: standard errors are below 0.0032.
    assert abs(float(noise.mean())) < 0.015 and float(size) == pytest.approx(1, abs=0.015)
    q = kind(scale=0.03, key=1, margin=0.0)(p)
    assert torch.allclose(q, mp.project(p + 0.03 * noise, label=label_of(p)), rtol=0, atol=1e-12)


def keyed(kind: type[LaplaceNoise], p: Tensor, scale: float, key: int) -> Tensor:
    return kind(scale=scale, key=key)(p)  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", KINDS)
def test_the_noise_is_a_function_of_key_and_row(kind: type[LaplaceNoise]) -> None:
    p = draw("plain", 50, K).float()
    q = keyed(kind, p, 0.05, 1)
    assert torch.equal(q, keyed(kind, p, 0.05, 1))
    assert torch.equal(keyed(kind, p.flip(0), 0.05, 1), q.flip(0))
    assert ((q - keyed(kind, p, 0.05, 2)).abs().sum(1) > 1e-3).all()
    assert kind(scale=0.05)._key is kind(scale=0.1)._key


@pytest.mark.parametrize("kind", KINDS)
def test_more_scale_is_more_distortion(kind: type[LaplaceNoise]) -> None:
    p = draw("plain", 500, K).float()
    moved = [
        float((keyed(kind, p, scale, 1) - p).abs().sum(1).mean())
        for scale in (0.0, 1e-3, 0.01, 0.1, 1.0)
    ]
    assert moved == sorted(moved) and moved[0] < 1e-6
    assert moved[1] == pytest.approx(1e-3 * K * (1 if kind is LaplaceNoise else 0.8), rel=0.15)
    huge = keyed(kind, p, 1e6, 1)
    assert torch.isfinite(huge).all() and torch.equal(label_of(huge), label_of(p))


@pytest.mark.parametrize("kind", KINDS)
def test_a_scale_is_needed_within_its_range(kind: type[LaplaceNoise]) -> None:
    for wrong in (-0.1, math.nan, math.inf):
        with pytest.raises(ValueError, match="expected scale in"):
            kind(scale=wrong)
    secret = kind(scale=0.1, key=987_654_321)
    assert not any(str(word) in repr(secret) for word in (987_654_321, *secret._key.words))
