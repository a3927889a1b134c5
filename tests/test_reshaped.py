"""The baselines that reshape entries: top-k, temperature, reverse sigmoid, high confidence, one parameter."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from distributions import DISTRIBUTIONS, draw

from mipoison.defenses import (
    HighConfidence,
    OneParameter,
    ReverseSigmoid,
    Rounding,
    Temperature,
    TopK,
)
from mipoison.defenses.baselines.one_parameter import exponential_draws
from mipoison.defenses.clean import clean_rows
from mipoison.reference import label_of, valid_rows

K = 10


@pytest.mark.parametrize("k", [1, 2, 9, 10, 50])
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_top_k_tells_the_k_largest(distribution: str, k: int) -> None:
    p = draw(distribution, 200, K)
    assert int((TopK(k)(p) > 0).sum(1).max()) <= k
    q = TopK(k, margin=0.0)(p)
    assert int((q > 0).sum(1).max()) <= k
    kept = torch.zeros_like(p)
    values, index = p.topk(min(k, K), dim=1)
    # Which of equal entries torch.topk takes is open; the values are not.
    expected = kept.scatter(1, index, values / values.sum(1, keepdim=True))
    assert torch.allclose(q.sort(1).values, expected.sort(1).values, rtol=0, atol=1e-12)


def test_of_equal_entries_the_lower_index_is_kept() -> None:
    assert TopK(2)(torch.tensor([[0.2, 0.4, 0.2, 0.2]])).nonzero()[:, 1].tolist() == [0, 1]


@pytest.mark.parametrize("temperature", [0.2, 1.0, 3.0, 50.0])
def test_a_temperature_acts_as_on_logits(temperature: float) -> None:
    logits = torch.randn(100, K, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    q = Temperature(temperature=temperature, margin=0.0)(torch.softmax(logits, 1))
    assert torch.allclose(q, torch.softmax(logits / temperature, 1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("temperature", [1e-300, 1e-3, 1e3, 1e300])
def test_extreme_temperatures_keep_the_label(temperature: float) -> None:
    for distribution in DISTRIBUTIONS:
        p = draw(distribution, 100, K)
        q = Temperature(temperature=temperature)(p)
        assert torch.isfinite(q).all() and torch.equal(label_of(q), label_of(p))


def test_reverse_sigmoid_keeps_a_label_that_the_formula_loses() -> None:
    p = torch.tensor([[0.6, 0.4 - 1e-9, 1e-9]], dtype=torch.float64)
    # The smallest entry is raised by almost β/2.
    raised = p - 1.5 * (torch.sigmoid(5.0 * torch.logit(p, eps=1e-9)) - 0.5)
    assert int(raised.argmax()) != 0
    assert int(ReverseSigmoid(beta=1.5, gamma=5.0)(p).argmax()) == 0


def test_reverse_sigmoid_without_magnitude_changes_nothing() -> None:
    p = draw("plain", 50, K)
    assert torch.allclose(ReverseSigmoid(beta=0.0)(p), p, rtol=0, atol=1e-12)


def test_a_row_below_the_cutoff_shows_its_label() -> None:
    p = torch.tensor([[0.3, 0.4, 0.3], [0.2, 0.1, 0.7]])
    assert HighConfidence(cutoff=0.5)(p).tolist() == [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]


@pytest.mark.parametrize("rate", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("center", [0.0, 0.1, 0.5, 1.0])
def test_exponential_draws_have_the_density(center: float, rate: float) -> None:
    n = 400_000
    u = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    drawn = exponential_draws(torch.full_like(u, center), u, rate)
    assert float(drawn.min()) >= 0 and float(drawn.max()) <= 1 and (drawn.diff() >= 0).all()
    v = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    density = torch.exp(-rate * (v - center).abs())
    density /= density.mean()
    for power in (1, 2, 3):
        assert float((drawn**power).mean()) == pytest.approx(
            float((density * v**power).mean()), abs=2e-5
        )


def test_one_parameter_keeps_the_whole_order() -> None:
    p = draw("plain", 300, K)
    q = OneParameter(privacy_budget=5.0, key=1)(p)
    order = p.sort(1, descending=True).indices
    assert (q.gather(1, order).diff(dim=1) <= 0).all()
    moved = [
        float((OneParameter(privacy_budget=b, key=1)(p) - p).abs().sum(1).mean())
        for b in (1e9, 1e3, 100.0, 10.0)
    ]
    assert moved == sorted(moved) and moved[0] < 1e-6


def test_one_parameter_is_a_function_of_key_and_row() -> None:
    p = draw("plain", 50, K).float()
    first, second = OneParameter(key=987_654_321), OneParameter(key=2)
    assert torch.equal(first(p), first(p.flip(0)).flip(0))
    assert ((first(p) - second(p)).abs().sum(1) > 1e-4).all()
    assert not any(str(word) in repr(first) for word in (987_654_321, *first._key.words))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: TopK(0), "k to be an int >= 1"),
        (lambda: TopK(2.0), "k to be an int >= 1"),
        (lambda: Temperature(temperature=0.0), "temperature in"),
        (lambda: Temperature(temperature=float("inf")), "temperature in"),
        (lambda: ReverseSigmoid(beta=-1.0), "beta in"),
        (lambda: ReverseSigmoid(gamma=0.0), "gamma in"),
        (lambda: HighConfidence(cutoff=0.0), "cutoff in"),
        (lambda: HighConfidence(cutoff=1.1), "cutoff in"),
        (lambda: OneParameter(privacy_budget=0.0), "privacy_budget in"),
        (lambda: OneParameter(privacy_budget=math.nan), "privacy_budget in"),
    ],
)
def test_settings_out_of_range_are_refused(make: object, words: str) -> None:
    with pytest.raises(ValueError, match=f"expected {words}"):
        make()  # type: ignore[operator]


def test_names() -> None:
    named = [TopK(), Temperature(), ReverseSigmoid(), HighConfidence(), OneParameter()]
    assert [d.name for d in named] == [
        *("top-k", "temperature", "reverse sigmoid", "high confidence", "one-parameter DP")
    ]


# What is compared with a threshold, or with another entry, is the row as it came.

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cutoff", [0.05, 0.1, 0.3, 1 / 3])
def test_an_entry_at_the_cutoff_is_kept(cutoff: float, dtype: torch.dtype) -> None:
    """Its dtype's 0.1 is no less than 0.1, whatever is left of it after renormalising."""
    at = torch.tensor(cutoff, dtype=dtype)
    below = float(at) * (1 - torch.finfo(dtype).eps)
    for sum_is in (1.0, 1 + 9e-5, 1 - 9e-5):
        for entry, kept in ((float(at), True), (below, False)):
            p = torch.tensor([[sum_is - entry, entry, 0.0]], dtype=torch.float64).to(dtype)
            q = HighConfidence(cutoff=cutoff)(p)
            assert bool(q[0, 1] > 0) == kept or float(p[0, 1]) not in (float(at), below)
    assert HighConfidence(cutoff=cutoff)(torch.tensor([[0.7, 0.3, 0.0]], dtype=dtype)).shape == (
        1,
        3,
    )


def test_the_cutoff_of_the_reported_row() -> None:
    q = HighConfidence(cutoff=0.1)(torch.tensor([[0.3, 0.55, 0.05, 0.1]]))
    assert (q > 0).tolist() == [[True, True, False, True]]


@pytest.mark.parametrize("decimals", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_rounding_is_numpys_in_the_rows_own_dtype(dtype: type, decimals: int) -> None:
    # Half of these entries lie half-way between two decimals, or next to it.
    parts = torch.randint(0, 200, (500, 8), generator=torch.Generator().manual_seed(1))
    exact = (parts / parts.sum(1, keepdim=True) * 200).round() / 200
    exact[:, 0] += 1 - exact.sum(1)
    p = exact[(exact >= 0).all(1)].numpy().astype(dtype)
    told = np.round(p, decimals).astype(np.float64)
    total = told.sum(1, keepdims=True)
    q = Rounding(decimals, margin=0.0)(p)
    label = p.argmax(1)
    kept = (total[:, 0] > 0) & (told.max(1) == told[np.arange(len(p)), label])
    tolerance = {np.float64: 1e-12, np.float32: 1e-6, np.float16: 2e-3}[dtype]
    assert kept.sum() > 50
    np.testing.assert_allclose(q[kept], (told / total)[kept], rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
def test_more_decimals_than_the_dtype_has_change_nothing(dtype: torch.dtype) -> None:
    p = draw("plain", 50, K).to(dtype)
    for decimals in (9, 40, 400):
        q = Rounding(decimals)(p).double()
        exact = p.double() / p.double().sum(1, keepdim=True)
        assert torch.isfinite(q).all()
        assert float((q - exact).abs().max()) <= 2e-9 + torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_larger_of_two_adjacent_values_is_kept(dtype: torch.dtype) -> None:
    """Two neighbouring numbers divided by the sum can be equal, of which the lower index would be kept."""
    small = torch.rand(20_000, generator=torch.Generator().manual_seed(0), dtype=dtype) * 0.2 + 0.1
    larger = torch.nextafter(small, torch.ones_like(small))
    rest = (1 + 9e-5) - small.double() - larger.double()
    p = torch.stack((rest.to(dtype), small, larger), 1)
    clean = clean_rows(p, valid_rows(p))
    assert valid_rows(p).all() and bool((clean[:, 1] == clean[:, 2]).any())
    q = TopK(2)(p)
    assert (q[:, 1] == 0).all() and (q[:, 2] > 0).all()
    ordered = OneParameter(privacy_budget=1.0, key=1)(p)
    assert (ordered[:, 2] >= ordered[:, 1]).all() and (
        ordered[:, 2] > ordered[:, 1]
    ).double().mean() > 0.99
