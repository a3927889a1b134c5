"""Keying on the caller's request identities: what they share, what they change, what is refused."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from distributions import draw
from torch import Tensor
from worlds import world

import mipoison as mp
from mipoison.defenses import Defense
from mipoison.reference import label_of

K = 10
KEYED = ("direction", "decoy", "ascent", "lfp", "laplace", "gaussian", "one-parameter", "purifier")


@pytest.mark.parametrize("backend", [None, "reference"])
def test_two_rows_with_one_id_draw_the_same_words(backend: str | None) -> None:
    p = draw("plain", 4, K).float()
    words = mp.row_bits(p, key=1, ids=[7, 8, 7, 9], words=6, backend=backend)
    assert torch.equal(words[0], words[2])
    assert len(words.unique(dim=0)) == 3 and len(words[[0, 1, 3]].unique()) == 18
    # The row has no say, nor has the grid.
    assert torch.equal(words, mp.row_bits(p.flip(1).double(), key=1, ids=[7, 8, 7, 9], words=6))
    assert torch.equal(words, mp.row_bits(p, key=1, ids=[7, 8, 7, 9], words=6, grid=0.1))
    assert torch.equal(words[:, 4:], mp.row_bits(p, key=1, ids=[7, 8, 7, 9], draw=1)[:, :2])
    assert not (words == mp.row_bits(p, key=2, ids=[7, 8, 7, 9], words=6)).any()


def test_ids_of_every_kind() -> None:
    p = draw("plain", 3, K)
    ints = [-5, 0, 2**63 - 1]
    expected = mp.row_bits(p, key=1, ids=ints)
    assert torch.equal(expected, mp.row_bits(p, key=1, ids=torch.tensor(ints)))
    assert np.array_equal(expected, mp.row_bits(p.numpy(), key=1, ids=np.array(ints)))
    small = mp.row_bits(p, key=1, ids=torch.tensor([1, 2, 3], dtype=torch.int32))
    assert torch.equal(small, mp.row_bits(p, key=1, ids=(1, 2, 3)))
    texts = mp.row_bits(p, key=1, ids=["a", "é", ""])
    assert torch.equal(texts, mp.row_bits(p, key=1, ids=[b"a", "é".encode(), b""]))
    assert np.array_equal(texts, mp.row_bits(p.numpy(), key=1, ids=np.array(["a", "é", ""])))
    objects = np.array([np.int64(i) for i in ints], dtype=object)
    assert np.array_equal(expected, mp.row_bits(p.numpy(), key=1, ids=objects))
    # Names of files that are no UTF-8.
    odd = mp.row_bits(p, key=1, ids=["\udcff", "\udcfe", "\udcff"])
    assert torch.equal(odd[0], odd[2]) and not torch.equal(odd[0], odd[1])
    every = torch.cat((expected, small, texts, mp.row_bits(p, key=1, ids=["1", "2", "3"])))
    assert len(every.unique(dim=0)) == 12
    assert mp.row_bits(p[:0], key=1, ids=[]).shape == (0, 4)


def test_neighbouring_ids_draw_uniform_words() -> None:
    n = 100_000
    words = mp.row_bits(torch.full((n, 2), 0.5), key=1, ids=torch.arange(n))
    assert len(words.unique(dim=0)) == n
    for column in words.double().T:
        # 3 bits of 100,000 words: χ² with seven degrees of freedom, P(> 29) = 1e-4.
        counts = torch.bincount((column.long() >> 29), minlength=8).double()
        assert float(((counts - n / 8).square() / (n / 8)).sum()) < 29


@pytest.mark.parametrize("name", [*KEYED, "lfp-margin"])
def test_nothing_changes_without_ids(fitted: dict[str, Any], name: str) -> None:
    p = draw("plain", 40, K, seed=3).float()
    defense = fitted[name]
    before = defense(p)
    defense(p, ids=list(range(40)))
    assert torch.equal(defense(p), before) and torch.equal(defense(p, ids=None), before)


@pytest.mark.parametrize("name", ["label-only", "rounding", "contract"])
def test_a_defense_without_a_key_refuses_ids(fitted: dict[str, Any], name: str) -> None:
    p = draw("plain", 3, K).float()
    for served in (fitted[name], mp.Defended(torch.nn.Identity(), fitted[name])):
        with pytest.raises(ValueError, match=r"expected no ids for .*, which has no key"):
            served(p, ids=[1, 2, 3])


@pytest.mark.parametrize("name", KEYED)
def test_the_answer_is_a_function_of_key_id_and_row(fitted: dict[str, Any], name: str) -> None:
    p = draw("plain", 40, K, seed=3).float()
    ids = torch.arange(40)
    defense: Defense = fitted[name]
    q = defense(p, ids=ids)
    assert torch.equal(defense(p, ids=ids), q)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    assert torch.equal(defense(p[order], ids=ids[order]), q[order])
    assert torch.equal(defense(p[5:6], ids=[5]), q[5:6])
    other = defense(p, ids=ids + 1000)
    changed = ((other - q).abs().sum(1) > 1e-5).double().mean()
    # LFP flips three rows in ten.
    assert float(changed) > (0.2 if name == "lfp" else 0.7)
    if name != "lfp":
        assert torch.equal(label_of(q), label_of(p))


def test_swap_takes_its_bank_vector_by_id(fitted: dict[str, Any]) -> None:
    same = draw("plain", 1, K, seed=3).float().repeat(50, 1)
    answers = fitted["swap"](same, ids=torch.arange(50))
    assert len(answers.unique(dim=0)) > 5
    assert len(fitted["swap"](same, ids=[1] * 50).unique(dim=0)) == 1


def test_calls_take_ids() -> None:
    p, x = world(60, K, 4)
    surrogate = mp.Surrogate.fit(p, x, epochs=2)
    calls: list[Callable[..., Tensor]] = [
        lambda **o: mp.lpa(p, key=1, **o),
        lambda **o: mp.lpa(p, surrogate, key=1, **o),
        lambda **o: mp.lfp(p, rate=0.5, key=1, **o),
        lambda **o: mp.lfp(p, surrogate, rate=0.5, key=1, **o),
        lambda **o: mp.Defended(torch.nn.Identity(), mp.LFP(rate=0.5, key=1))(p, **o),
    ]
    for call in calls:
        assert torch.equal(call(ids=range(60)), call(ids=list(range(60))))
        assert not torch.equal(call(ids=range(60)), call())
        assert not torch.equal(call(ids=range(60)), call(ids=range(1, 61)))


@pytest.mark.parametrize("targets", [None, "given"])
def test_flips_by_id_have_the_rate_and_the_targets(targets: str | None) -> None:
    n = 20_000
    p = draw("plain", n, K).float()
    new = None if targets is None else (label_of(p) + 1) % K
    q, labels = mp.flip(p, targets=new, rate=0.3, key=1, ids=torch.arange(n))
    chosen = labels != label_of(p)
    assert abs(int(chosen.sum()) - 0.3 * n) < 5 * (0.21 * n) ** 0.5
    assert torch.equal(label_of(q), labels)
    if new is not None:
        assert torch.equal(labels[chosen], new[chosen])
    alike, _ = mp.flip(p[:1].repeat(200, 1), rate=0.3, key=1, ids=[3] * 200)
    assert len(alike.unique(dim=0)) == 1
    bad = torch.full((n,), -1)
    bad[3] = -2
    with pytest.raises(ValueError, match="-2 in row 3"):
        mp.flip(p, targets=bad, rate=0.0, key=1, ids=torch.arange(n))


@pytest.mark.parametrize(
    ("ids", "error", "words"),
    [
        ([1, 2], ValueError, r"ids of shape \(3,\), one a row, got \(2,\)"),
        (torch.zeros(3, 1, dtype=torch.int64), ValueError, r"got \(3, 1\)"),
        (7, TypeError, "got int"),
        ("abc", TypeError, "got str"),
        (b"abc", TypeError, "got bytes"),
        ([1, "a", 2], TypeError, "got str among them"),
        (["a", 1, "b"], TypeError, "got int among them"),
        (["a", b"a", "b"], TypeError, "got bytes among them"),
        ([b"a", "a", b"b"], TypeError, "got str among them"),
        ([1.0, 2.0, 3.0], TypeError, "got float among them"),
        ([True, False, True], TypeError, "got bool among them"),
        (torch.rand(3), TypeError, "integers, got torch.float32"),
        (torch.tensor([1.0, 2.0, math.nan]), TypeError, "integers, got missing ones"),
        ([1, 2, 2**63], ValueError, "at most 64 bits"),
        (
            torch.nested.nested_tensor([torch.zeros(1)] * 3, layout=torch.jagged),
            TypeError,
            "dense tensor, got a nested",
        ),
    ],
)
def test_other_ids_are_refused(
    fitted: dict[str, Any], ids: Any, error: type[Exception], words: str
) -> None:
    p = draw("plain", 3, K).float()
    for call in (
        lambda: mp.row_bits(p, ids=ids),
        lambda: mp.flip(p, rate=0.5, ids=ids),
        lambda: fitted["direction"](p, ids=ids),
        # A defense without a key has no use for them, and refuses them all the same.
        lambda: fitted["label-only"](p, ids=ids),
    ):
        with pytest.raises(error, match=words) as caught:
            call()
        assert "expected" in str(caught.value)


def test_failures_are_counted_under_ids() -> None:
    p = draw("plain", 4, K).float()
    p[2] *= 3
    defense = mp.LFP(key=1, on_invalid="label", audit=True)
    defense(p, ids=[1, 2, 3, 4])
    assert defense.failures == 1 and defense.audit is not None and defense.audit.rows == 3


def test_repr_of_a_request_key_hides_it() -> None:
    key = mp.Key(5)
    bound = mp.ops.identity.request_key(key, [1, 2], torch.rand(2, K))
    assert repr(bound) == "Key(<hidden>)"
    assert copy.deepcopy(bound) is bound
    with pytest.raises(ValueError, match="expected as many rows as ids, got 3 and 2"):
        mp.row_bits(torch.rand(3, K), key=bound)
