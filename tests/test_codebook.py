"""Codebooks: finite answers, the budget and the gain on fresh rows, and the merging that finds them."""

from __future__ import annotations

import math
from typing import Any

import cvxpy
import pytest
import torch
from distributions import DISTRIBUTIONS, draw
from later import fewer, later
from torch import Tensor

import mipoison as mp
from mipoison.defenses.lpa.codebook import Codebook
from mipoison.defenses.lpa.folds import folds
from mipoison.defenses.lpa.merging import merge, middle
from mipoison.reference import label_of
from mipoison.reference.rounding import lead

K = 5
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def classified(n: int, seed: int, k: int = K) -> tuple[Tensor, Tensor]:
    """Confidence vectors and inputs: a confidence and a runner-up, which show in the inputs, and noise in both."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(k, (n,), generator=generator)
    second = (label + 1 + torch.randint(k - 1, (n,), generator=generator)) % k
    sure = torch.rand(n, generator=generator)
    logits = 0.3 * torch.randn(n, k, generator=generator)
    rows = torch.arange(n)
    logits[rows, label] += 3 + 5 * sure
    logits[rows, second] += 2.5 - 2 * sure
    x = torch.rand(n, 8, generator=generator)
    x[:, 0] = label / k
    x[:, 1] = second / k
    x[:, 2:4] = sure.unsqueeze(1)
    return logits.softmax(1), x


def spent(defense: mp.LPA, p: Tensor) -> float:
    return float((defense(p) - p).abs().sum(1).mean())


@pytest.fixture(scope="module")
def books() -> dict[float | None, mp.LPA]:
    """By budget."""
    p, x = classified(fewer(700, 1500), seed=100)
    return {
        budget: mp.LPA.fit(p, x, objective="codebook", budget=budget)
        for budget in fewer((0.1, None), (0.05, 0.1, None))
    }


# Answers.


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_every_answer_is_a_codeword_of_its_label(
    books: dict[float | None, mp.LPA], distribution: str, dtype: torch.dtype
) -> None:
    p = draw(distribution, 300, K, seed=1).to(dtype)
    for book in books.values():
        words = book.objective.codewords.flatten(0, 1).double()
        words = (words / words.sum(1, keepdim=True)).to(dtype)
        q = book(p)
        assert len(q.unique(dim=0)) <= len(words)
        distance = (q.double().unsqueeze(1) - words.double()).abs().sum(2).amin(1)
        assert float(distance.max()) <= K * torch.finfo(dtype).eps
        assert torch.equal(label_of(q), label_of(p))
        assert float(lead(q.double(), label_of(q)).min()) > 2.0**-7


def test_the_nearest_codeword_is_the_answer(books: dict[float | None, mp.LPA]) -> None:
    p, _ = classified(400, seed=101)
    for book in books.values():
        mine = book.objective.codewords[label_of(p)]
        nearest = (mine - p.unsqueeze(1)).abs().sum(2).amin(1)
        assert torch.allclose((book(p) - p).abs().sum(1), nearest, atol=1e-6)


def test_without_a_budget_there_is_one_answer_a_label(books: dict[float | None, mp.LPA]) -> None:
    p, _ = classified(400, seed=101)
    assert len(books[None](p).unique(dim=0)) == K


def test_a_cap_stops_rows_on_the_way() -> None:
    p, x = classified(600, seed=100)
    free, capped = (
        mp.LPA.fit(p, x, objective="codebook", epsilon=epsilon) for epsilon in (None, 0.2)
    )
    fresh, inputs = classified(600, seed=101)
    far = (free(fresh) - fresh).abs().sum(1)
    assert float((capped(fresh) - fresh).abs().sum(1).max()) <= 0.2 + 2e-7
    assert 0.1 < (far > 0.2).double().mean() < 0.9
    assert torch.equal(capped(fresh)[far < 0.199], free(fresh)[far < 0.199])
    assert mp.certify(capped, fresh, inputs).alone == pytest.approx(
        float((far > 0.2).double().mean()), abs=0.01
    )


def test_it_needs_no_network_and_no_key(books: dict[float | None, mp.LPA]) -> None:
    book, (p, x) = books[0.1], classified(60, seed=102)
    assert list(book.state_dict()) == ["_extra_state", "objective.codewords"]
    with pytest.raises(ValueError, match="expected no key with objective 'codebook'"):
        mp.LPA.fit(p, x, objective="codebook", key=1)
    with pytest.raises(ValueError, match="expected no ids"):
        book(p, ids=list(range(60)))
    shapes = {"outputs": {0: torch.export.Dim("n", min=2, max=1000)}, "validate": None}
    given = (book, (p,), {"validate": False})
    program = torch.export.export(*given, dynamic_shapes=shapes).module()
    assert torch.equal(program(p[:17], validate=False), book(p[:17]))


# Aims.


@pytest.mark.parametrize("budget", [0.1, *later(0.05)])
def test_fresh_rows_spend_the_budget(books: dict[float | None, mp.LPA], budget: float) -> None:
    p, _ = classified(20_000, seed=103)
    assert spent(books[budget], p) == pytest.approx(budget, rel=0.1)


def test_a_larger_budget_certifies_more(books: dict[float | None, mp.LPA]) -> None:
    p, x = classified(3000, seed=104)
    made = [mp.certify(book, p, x) for book in books.values()]
    assert [c.answers for c in made] == sorted([c.answers for c in made], reverse=True)
    bounds = [c.mse for c in made]
    assert bounds == sorted(set(bounds)) and bounds[-1] <= made[-1].label_mse * 1.0001


@pytest.mark.full
@pytest.mark.whole_fits
def test_a_gain_is_certified_on_fresh_rows_at_less_l1() -> None:
    p, x = classified(700, seed=100)
    book = mp.LPA.fit(p, x, objective="codebook", certified=0.4)
    fresh, inputs = classified(700, seed=105)
    surrogate = mp.Surrogate.fit(p, x)
    undefended = float((surrogate.reconstruct(fresh) - inputs).square().mean())
    # (Six fits on other rows certified .28 to .51 on fresh rows of as many, .37 on average.)
    assert 0.28 < mp.certify(book, fresh, inputs).gain(undefended) < 0.52
    one = mp.LPA.fit(p, x, objective="codebook")
    assert spent(book, fresh) < 0.95 * spent(one, fresh)


@pytest.mark.full
def test_the_unit_of_the_inputs_decides_nothing() -> None:
    p, x = classified(200, seed=100)
    x = (255 * x).round()
    made = [
        mp.LPA.fit(p, inputs, objective="codebook", certified=0.2).objective.codewords
        for inputs in (x.to(torch.uint8), x / 255, 1e6 * x)
    ]
    assert all(torch.equal(words, made[0]) for words in made)


def test_copies_stay_together_and_labels_are_in_every_fold() -> None:
    label = label_of(classified(300, seed=100)[0]).repeat(3)
    groups = torch.arange(300).repeat(3)
    fold = folds(label, groups, 8, seed=1)
    assert torch.equal(fold[:300], fold[300:600]) and torch.equal(fold[:300], fold[600:])
    for t in range(K):
        sizes = torch.bincount(fold[label == t], minlength=8)
        assert int(sizes.max() - sizes.min()) <= 3
    assert not torch.equal(fold, folds(label, groups, 8, seed=2))
    given = torch.bincount(folds(label, None, 8, seed=1))
    assert int(given.max() - given.min()) <= 1


@pytest.mark.full
def test_copies_that_are_kept_out_together_set_the_budget() -> None:
    p, x = (part.repeat(3, 1) for part in classified(200, seed=100))
    groups = torch.arange(200).repeat(3)
    fresh, _ = classified(20_000, seed=103)
    apart, together = (
        mp.LPA.fit(p, x, objective="codebook", budget=0.12, groups=some) for some in (None, groups)
    )
    assert spent(together, fresh) == pytest.approx(0.12, rel=0.15)
    assert len(apart(fresh).unique(dim=0)) < len(together(fresh).unique(dim=0))


# Few rows.


@pytest.mark.parametrize(("n", "k"), [(1, 3), (2, 3), (7, 3), (60, 2), (100, 50)])
def test_few_rows(n: int, k: int) -> None:
    p, x = classified(n, seed=106, k=k)
    fresh, _ = classified(200, seed=107, k=k)
    for aim in ({}, {"budget": 1.5}):
        book = mp.LPA.fit(p, x, objective="codebook", **aim)
        q = book(fresh)
        assert torch.equal(label_of(q), label_of(fresh)) and torch.isfinite(q).all()
        assert len(q.unique(dim=0)) <= book.objective.codewords[:, :, 0].numel()


def test_a_label_without_rows_has_a_codeword() -> None:
    p, x = classified(300, seed=100)
    keep = label_of(p) != 2
    book = mp.LPA.fit(p[keep], x[keep], objective="codebook", budget=0.2)
    q = book(p[~keep])
    assert len(q.unique(dim=0)) == 1
    assert torch.allclose(q[0], torch.tensor([0.1, 0.1, 0.6, 0.1, 0.1]), atol=1e-6)


# Merging.


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("n", [1, 2, 9, 20])
def test_the_middle_has_the_least_mean_l1(distribution: str, n: int) -> None:
    rows = draw(distribution, n, 4, seed=n)
    q = cvxpy.Variable(4, nonneg=True)
    total = cvxpy.sum([cvxpy.norm1(q - row) for row in rows.numpy()])
    best = cvxpy.Problem(cvxpy.Minimize(total), [cvxpy.sum(q) == 1]).solve()
    center = middle(rows)
    assert float(center.min()) >= 0 and math.isclose(float(center.sum()), 1, rel_tol=1e-12)
    assert float((rows - center).abs().sum()) <= best + 1e-6


def test_a_higher_price_merges_more() -> None:
    p, x = classified(200, seed=100)
    mine = label_of(p) == 0
    merged = merge(
        p[mine], x[mine], 0, cells=12, margin=1e-3, generator=torch.Generator().manual_seed(0)
    )
    limits = [-math.inf, *sorted(set(merged.born.tolist()) - {-math.inf}), math.inf]
    counts = [int(merged.at(limit).sum()) for limit in limits]
    assert counts[0] == 12 and counts[-1] == 1 and counts == sorted(counts, reverse=True)
    near = [
        float(torch.cdist(p[mine], merged.centers[merged.at(limit)], p=1).amin(1).mean())
        for limit in limits
    ]
    assert near[0] < near[len(near) // 2] < near[-1]


# Errors.


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"budget": 1e-3}, "expected a budget that codewords can meet, got 0.001"),
        (
            {"budget": 0.1, "certified": 0.9},
            "expected a budget or a gain to be certified, got both",
        ),
        ({"certified": 0.999}, "expected a gain that 300 rows can certify, got 0.999"),
        ({"certified": 1.5}, r"expected certified in \(0, 1\]"),
        ({"inputs": torch.ones(300, 2), "certified": 0.5}, "expected inputs that differ"),
        (
            {"error": "root"},
            "expected error with objective 'auto', 'equilibrium' or 'generator' alone",
        ),
        (
            {"objective": "decoy", "certified": 0.5},
            "expected certified with objective 'codebook' alone",
        ),
    ],
)
def test_aims_out_of_reach_are_refused(change: dict[str, Any], said: str) -> None:
    p, x = classified(300, seed=100)
    given = {"outputs": p, "inputs": x, "objective": "codebook"} | change
    with pytest.raises(ValueError, match=said):
        mp.LPA.fit(**given)


def test_codewords_of_other_labels_are_refused() -> None:
    words = torch.eye(3).unsqueeze(1)
    book = Codebook(words)
    near = torch.full((3, 1, 3), 0.3) + 0.1 * words
    for margin in (1e-3, 0.0):
        mp.LPA(Codebook(near), margin=margin)
        with pytest.raises(ValueError, match=r"label leads by 0\.01172 for"):
            mp.LPA(Codebook(near * 0.999 + 0.001 / 3 - 0.095 * (words - 1 / 3)), margin=margin)
    with pytest.raises(ValueError, match="fit them with that margin"):
        mp.LPA(Codebook(near), margin=0.5)
    for wrong in (words.flip(0), words[:, 0], words[:2], words * 0.5):
        with pytest.raises(ValueError, match="expected"):
            Codebook(wrong)
    with pytest.raises(ValueError, match="expected codewords of the labels"):
        book.load_state_dict({"codewords": words.flip(0)})


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("margin", [1e-3, 0.3, 1.0])
def test_no_lead_has_to_be_restored(
    margin: float, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = mp.LPA.fit(*classified(300, seed=104), objective="codebook", margin=margin)
    assert book.leads == (margin < 1)
    p = torch.cat([draw(distribution, 100, K, seed=2) for distribution in DISTRIBUTIONS]).to(dtype)
    q = book(p)
    monkeypatch.setattr(mp.LPA, "leads", False)
    assert torch.equal(q, book(p)) and torch.equal(q, book(p, validate=False))


def test_an_lpa_of_a_codebook_lets_every_row_reach_its_codeword() -> None:
    p, x = classified(300, seed=105)
    fitted = mp.LPA.fit(p, x, objective="codebook")
    assert torch.equal(mp.LPA(fitted.objective)(p), fitted(p))
    capped = mp.LPA(fitted.objective, epsilon=0.05)(p)
    assert float((capped - p).abs().sum(1).max()) < 0.0501


def test_a_lead_is_restored_where_codewords_lack_it() -> None:
    """A margin that is raised afterwards, and codewords that are loaded."""
    p, x = classified(300, seed=106)
    book = mp.LPA.fit(p, x, objective="codebook")
    assert book.leads
    book.margin = 0.99
    q, label = book(p), label_of(p)
    assert not book.leads
    least = lead(p.double(), label).clamp_max(0.99) - 1e-6
    assert bool((lead(q.double(), label) >= least).all())
    book.margin = 1e-3
    close = torch.full((K, 1, K), 0.9 / K)
    close[torch.arange(K), 0, torch.arange(K)] += 0.1
    state = book.state_dict()
    state["objective.codewords"] = close.expand_as(state["objective.codewords"]).clone()
    book.load_state_dict(state)
    assert book.leads
    close[:] = (1 - 1e-4) / K
    close[torch.arange(K), 0, torch.arange(K)] += 1e-4
    state["objective.codewords"] = close.expand_as(state["objective.codewords"]).clone()
    book.load_state_dict(state)
    assert not book.leads
