"""What a client gets: decimals that sum to one in JSON, the largest entries, and refusals."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from distributions import DISTRIBUTIONS, draw
from later import later
from torch import Tensor

import mipoison as mp
from mipoison.defenses import LaplaceNoise, Rounding
from mipoison.defenses.base import Defense
from mipoison.defenses.decimals import farthest
from mipoison.defenses.wire import TopK, on_the_wire, require_wire
from mipoison.reference import label_of, valid_rows

K = 10
ORDER = {"l1": 1, "l2": 2, "linf": math.inf}
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
Fitted = dict[str, Any]


class Still(Defense):
    """Answers with the row itself."""

    name = "still"

    def answer(self, p: Tensor) -> Tensor:
        return p.clone()


class Small(Still):
    """In a ball."""

    def __init__(self, epsilon: float, norm: str) -> None:
        super().__init__()
        self.epsilon, self.norm = epsilon, norm

    @property
    def ball(self) -> tuple[float, str]:
        return self.epsilon, self.norm


def rows(dtype: torch.dtype = torch.float32, k: int = K, n: int = 20) -> Tensor:
    return torch.cat([draw(d, n, k, seed=5) for d in DISTRIBUTIONS]).to(dtype)


def as_decimals(numbers: list[float]) -> list[Decimal]:
    """The numbers as a client reads them from JSON."""
    return json.loads(json.dumps(numbers), parse_float=Decimal)  # type: ignore[no-any-return]


def assert_strict(q: Tensor, label: Tensor) -> None:
    others = q.scatter(1, label[:, None], -1.0).amax(1)
    assert bool((q.gather(1, label[:, None]).squeeze(1) > others).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, *later(*DTYPES[1:3])])
@pytest.mark.parametrize("decimals", [3, *later(4, 6)])
def test_every_defense_keeps_its_contract(
    fitted: Fitted, decimals: int, dtype: torch.dtype
) -> None:
    p = rows(dtype)
    center = p.double() / p.double().sum(1, keepdim=True)
    for name, defense in fitted.items():
        q = on_the_wire(defense, p, decimals=decimals)
        assert q.dtype == torch.float64 and q.shape == p.shape, name
        counts = (q * 10**decimals).round()
        assert torch.equal(counts / 10**decimals, q) and float(q.min()) >= 0, name
        assert bool((counts.sum(1) == 10**decimals).all()), name
        assert_strict(q, label_of(defense(p)))
        radius, norm = defense.ball
        moved = torch.linalg.vector_norm(q - center, ORDER[norm], dim=1)
        assert float(moved.max()) <= radius + 2e-7, name
        assert torch.equal(on_the_wire(defense, p, decimals=decimals, validate=False), q), name


@pytest.mark.parametrize("decimals", [3, *later(2, 4)])
def test_batch_invariance(fitted: Fitted, decimals: int) -> None:
    p = rows(k=K)
    order = torch.randperm(len(p))
    for name, defense in fitted.items():
        whole = on_the_wire(defense, p, decimals=decimals, top_k=4)
        for at in (order, slice(17, 18), slice(3, 40)):
            part = on_the_wire(defense, p[at], decimals=decimals, top_k=4)
            for ours, theirs in zip(part, whole, strict=True):
                assert torch.equal(ours, theirs[at]), name


# JSON.


@pytest.mark.parametrize("decimals", [1, 4, 7, 9])
def test_json_has_the_decimals_and_sums_to_one(decimals: int) -> None:
    for k in (2, 10, 1000):
        for dtype in DTYPES:
            p = rows(dtype, k, n=2)
            p = p[valid_rows(p)]
            for row in on_the_wire(Still(), p, decimals=decimals).tolist():
                read = as_decimals(row)
                assert sum(read) == 1
                assert all(-x.as_tuple().exponent <= max(1, decimals) for x in read)  # type: ignore[operator]
            top = on_the_wire(Still(), p, decimals=decimals, top_k=2)
            for values, rest in zip(top.values.tolist(), top.rest.tolist(), strict=True):
                assert sum(as_decimals([*values, rest])) == 1


# The largest entries.


@pytest.mark.parametrize("decimals", [None, 1, 3])
@pytest.mark.parametrize("top_k", [1, 3, K])
def test_top_k_are_the_first_of_a_stable_order(decimals: int | None, top_k: int) -> None:
    p = rows()
    whole = on_the_wire(Still(), p, decimals=decimals)
    top = on_the_wire(Still(), p, decimals=decimals, top_k=top_k)
    assert isinstance(top, TopK) and top.classes.dtype == torch.int64
    for i, row in enumerate(whole.tolist()):
        order = sorted(range(K), key=lambda j: (-row[j], j))[:top_k]
        assert top.classes[i].tolist() == order
        assert top.values[i].tolist() == [row[j] for j in order]
    assert torch.equal(top.classes[:, 0], label_of(p))
    assert top.values.dtype == top.rest.dtype == whole.dtype
    total = whole.double().sum(1)
    assert torch.allclose(top.values.double().sum(1) + top.rest, total, atol=1e-6)
    assert bool((top.rest == 0).all()) or top_k < K
    if decimals is not None:
        units = torch.cat((top.values, top.rest[:, None]), 1) * 10**decimals
        assert bool((units.round().sum(1) == 10**decimals).all())


@pytest.mark.parametrize("dtype", DTYPES)
def test_top_k_without_decimals_keeps_the_dtype(dtype: torch.dtype) -> None:
    p = rows(dtype)
    top = on_the_wire(Rounding(2), p, top_k=3)
    assert top.values.dtype == top.rest.dtype == dtype
    assert torch.equal(top.values, Rounding(2)(p).gather(1, top.classes))


def test_arrays_are_answered_by_arrays() -> None:
    p = rows().numpy()
    q = on_the_wire(Rounding(2), p, decimals=3)
    assert isinstance(q, np.ndarray) and q.dtype == np.float64
    top = on_the_wire(Rounding(2), p, decimals=3, top_k=2)
    assert all(isinstance(part, np.ndarray) for part in top)
    assert isinstance(on_the_wire(Rounding(2), p.tolist(), decimals=3), np.ndarray)
    assert np.array_equal(np.take_along_axis(q, top.classes, 1), top.values)


def test_without_options_it_is_the_defense() -> None:
    p = rows()
    assert torch.equal(on_the_wire(LaplaceNoise(key=1), p), LaplaceNoise(key=1)(p))


def test_ids_are_passed_on() -> None:
    p, defense = rows()[:2], LaplaceNoise(scale=0.2, key=1)
    ids = ["one", "another"]
    q = on_the_wire(defense, p, decimals=4, ids=ids)
    assert float((q - defense(p, ids=ids)).abs().max()) < 1e-4
    assert float((q - defense(p)).abs().max()) > 1e-2


def test_large_batches_are_answered_as_small_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    p = rows()
    whole = on_the_wire(Rounding(2), p, decimals=3, top_k=3)
    monkeypatch.setattr("mipoison.defenses.wire.ROWS", 7 * K)
    for ours, theirs in zip(on_the_wire(Rounding(2), p, decimals=3, top_k=3), whole, strict=True):
        assert torch.equal(ours, theirs)


def test_another_memory_layout_gets_the_same_answer() -> None:
    p = rows()
    turned = p.T.contiguous().T
    for options in ({"decimals": 3}, {"top_k": 3}, {"decimals": 3, "top_k": 3}):
        ours, theirs = (on_the_wire(Rounding(2), x, **options) for x in (turned, p))
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


# Rows that are no probability vectors.


def test_invalid_rows_get_their_label_alone() -> None:
    p = rows()[:4].index_fill(0, torch.tensor([1]), torch.nan)
    p[2] = torch.tensor([3.0] * 4 + [5.0] + [0.0] * (K - 5))
    with pytest.raises(ValueError, match="rows 1, 2"):
        on_the_wire(Rounding(2), p, decimals=3)
    one_hot = torch.eye(K, dtype=torch.float64)[4]
    defense = Rounding(2, on_invalid="label")
    # (The label is unknown where a row is not finite: no entry is ahead.)
    for options in ({}, {"validate": False}):
        q = on_the_wire(defense, p, decimals=3, **options)
        assert torch.equal(q[2], one_hot) and q[1].tolist() == [0.1] * K
        top = on_the_wire(defense, p, decimals=3, top_k=2, **options)
        assert top.classes[2].tolist() == [4, 0] and top.classes[1].tolist() == [0, 1]
        assert top.values[2].tolist() == [1.0, 0.0] and top.rest[2] == 0
    assert defense.failures == 4
    # In a ball, too, where the safe answer is not measured from the row.
    ball = mp.LPA.fit(rows(), torch.rand(len(rows()), 3), objective="decoy", key=1)
    assert torch.equal(on_the_wire(ball, p, decimals=3, validate=False)[2], one_hot)


def test_uniform_answers_stay_as_even_as_the_decimals_allow() -> None:
    p = torch.full((1, 3), torch.nan)
    q = on_the_wire(Rounding(2), p, decimals=4, validate=False)
    assert q.tolist() == [[0.3334, 0.3333, 0.3333]]
    # A valid uniform row has a label, the first class, which leads.
    q = on_the_wire(Rounding(2), torch.full((1, 4), 0.25), decimals=4)
    assert int(label_of(q)) == 0 and float(q[0, 0]) > float(q[0, 1:].max())


def test_a_deferred_defense_is_checked_when_it_answers(tmp_path: Path) -> None:
    mp.LPA.fit(rows(), torch.rand(len(rows()), 3), objective="codebook", epsilon=0.2).save(
        tmp_path / "lpa.safetensors"
    )
    deferred = mp.Deferred(tmp_path / "lpa.safetensors")
    model = torch.nn.Softmax(-1)
    expected = mp.Defended(model, deferred.defense, decimals=4)(rows())
    assert torch.equal(mp.Defended(model, deferred, decimals=4)(rows()), expected)
    with pytest.raises(ValueError, match="use decimals=2 or more"):
        mp.Defended(model, deferred, decimals=1)(rows())


# Refusals.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decimals": 0}, r"expected decimals to be an int >= 1, got 0"),
        ({"decimals": 10}, r"expected decimals in \[1, 9\], got 10"),
        ({"decimals": 2.5}, r"expected decimals to be an int"),
        ({"decimals": True}, r"expected decimals to be an int"),
        ({"top_k": 0}, r"expected top_k to be an int >= 1, got 0"),
        ({"top_k": K + 1}, r"expected top_k of at most K=10 classes, got 11"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        on_the_wire(Rounding(2), rows(), **options)


@pytest.mark.parametrize(("k", "norm", "enough"), [(10, "l1", 4), (1000, "l1", 6), (1000, "l2", 4)])
def test_decimals_that_could_use_up_the_ball_are_refused(k: int, norm: str, enough: int) -> None:
    defense, p = Small(0.01, norm), draw("plain", 5, k).float()
    assert farthest(k, enough, norm) <= 0.005 < farthest(k, enough - 1, norm)
    message = (
        rf"half of epsilon=0\.01 \({norm}\) .*, got {enough - 1}, .*; use decimals={enough} or more"
    )
    with pytest.raises(ValueError, match=message):
        on_the_wire(defense, p, decimals=enough - 1)
    on_the_wire(defense, p, decimals=enough)
    with pytest.raises(ValueError, match="use decimals=None"):
        on_the_wire(Small(0.0, norm), p, decimals=9)


def test_no_row_leaves_undefended() -> None:
    """Rows at the border of their ball keep half of their move, whatever rounding does."""
    p = draw("plain", 300, 100, seed=1).float()
    defense = mp.LPA.fit(p, torch.rand(300, 2), objective="direction", epsilon=0.11, key=1)
    assert farthest(100, 3, "l1") > 0.45 * 0.11
    moved = (on_the_wire(defense, p, decimals=3) - p.double()).abs().sum(1)
    assert float(moved.min()) > 0.5 * 0.11 and float(moved.max()) <= 0.11 + 2e-7


def test_a_ball_that_holds_all_rows_allows_all_decimals() -> None:
    p = draw("plain", 5, 1000).float()
    for epsilon, norm in ((2.0, "l1"), (1.5, "l2"), (1.0, "linf")):
        on_the_wire(Small(epsilon, norm), p, decimals=1)


def test_a_fitted_defense_is_checked_before_it_serves() -> None:
    defense = mp.LPA.fit(rows(), torch.rand(len(rows()), 3), objective="decoy", key=1)
    for serve in (
        lambda: require_wire(defense, 1, None),
        lambda: mp.Defended(torch.nn.Softmax(-1), defense, decimals=1),
    ):
        with pytest.raises(ValueError, match="use decimals=2 or more"):
            serve()
    with pytest.raises(ValueError, match="expected top_k of at most K=10"):
        mp.Defended(torch.nn.Softmax(-1), defense, top_k=11)
    assert require_wire(defense, 4, np.int64(3)) == (4, 3)
    with pytest.raises(TypeError, match="expected defense to be a mipoison Defense"):
        on_the_wire(lambda p: p, rows(), decimals=4)
