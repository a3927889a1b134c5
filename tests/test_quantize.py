"""`quantize`: the nearest codeword, ties, codewords that are none, memory of the caller's, and errors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from distributions import draw
from later import later
from table import Case as Call
from table import assert_agrees, assert_kept, codewords_of, rows_of
from torch import Tensor

import mipoison as mp
from mipoison import cpu
from mipoison.reference import label_of

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
BACKENDS = ("cpp", "reference")


def agree(*arguments: Any) -> None:
    """Every instruction set agrees with the reference and keeps the guarantees."""
    case = Call("quantize", arguments, ("row",) * len(arguments[0]))
    for instruction_set in cpu.instruction_sets():
        with cpu.using(instruction_set):
            results = torch.ops.mipoison.quantize(*arguments)
        assert_agrees(case, results)
        assert_kept(case, results)


@pytest.mark.parametrize("with_offsets", [False, True])
@pytest.mark.parametrize("k", [2, 10, 100])
def test_no_codeword_is_nearer(k: int, with_offsets: bool) -> None:
    """Distances in float64, by NumPy, at the resolution that is promised."""
    words = codewords_of(k, 5)
    offsets = torch.rand(k, 5, generator=torch.Generator().manual_seed(1)) / 5
    p = rows_of(k, 20).float()
    q, number = mp.quantize(p, words, offsets if with_offsets else None)
    label = label_of(p).numpy()
    mine = words.double().numpy()[label]
    distance = np.abs(mine - p.double().numpy()[:, None]).sum(2)
    if with_offsets:
        distance += offsets.double().numpy()[label]
    rows = np.arange(len(p))
    assert (distance[rows, number] <= distance.min(1) + (k + 1) * 2.0**-29).all()
    assert np.abs(q.double().numpy() - mine[rows, number]).max() < 2e-7
    assert len(number.unique()) >= 4


@pytest.mark.parametrize("backend", BACKENDS)
def test_of_equally_near_codewords_the_first_wins(backend: str) -> None:
    words = torch.tensor([[0.75, 0.25], [0.5, 0.5], [0.75, 0.25]]).expand(2, 3, 2).clone()
    words[1] = words[1].flip(1)
    p = torch.tensor([[0.625, 0.375], [1.0, 0.0], [0.5, 0.5], [0.4375, 0.5625]])
    for dtype in DTYPES:
        q, number = mp.quantize(p.to(dtype), words, backend=backend)
        assert number.tolist() == [0, 0, 1, 1]
        assert torch.equal(label_of(q), label_of(p)) and bool((q[:, 0] != q[:, 1]).all())
        # An offset breaks the tie, or another one.
        _, number = mp.quantize(p.to(dtype), words, [[0.01, 0, 0], [0, 0.3, 0]], backend=backend)
        assert number.tolist() == [1, 2, 1, 0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("k", "words"), [(260, 70), *later((40, 3000))])
def test_more_codewords_than_a_table_holds(k: int, words: int, dtype: torch.dtype) -> None:
    agree(rows_of(k, 3).to(dtype), codewords_of(k, words), None)


@pytest.mark.parametrize("k", [7, 321])
def test_threads_do_not_change_an_answer(k: int) -> None:
    p, before = rows_of(k, 300_000 // k // 7 + 1).float(), torch.get_num_threads()
    answers = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            answers.append(torch.ops.mipoison.quantize(p, codewords_of(k, 3), None))
    finally:
        torch.set_num_threads(before)
    for answer in answers[1:]:
        assert all(torch.equal(x, y) for x, y in zip(answer, answers[0], strict=True))


BROKEN = (math.nan, math.inf, -math.inf, -1e-9, 0.999, 3e38, -0.01)


# Rows in columns, longer rows, and tables too large to be made.
@pytest.mark.parametrize("dtype", [torch.float32, *later(*DTYPES[1:])])
@pytest.mark.parametrize(("k", "words"), [(2, 3), (9, 20), (321, 3), (260, 70)])
def test_rows_of_a_label_with_a_broken_codeword_are_refused(
    k: int, words: int, dtype: torch.dtype
) -> None:
    p = rows_of(k, 12).to(dtype)
    present = label_of(p).unique().tolist()
    codewords, offsets = codewords_of(k, words).clone(), torch.zeros(k, words)
    for i, value in enumerate(BROKEN):
        if 2 * i + 1 < len(present):
            codewords[present[2 * i + 1], i % words, -1 - i % k] = value
    offsets[present[0], words // 2] = -1e-9
    agree(p, codewords, None)
    agree(p, codewords, offsets)
    _, number = mp.quantize(p, codewords, offsets, validate=False)
    refused = number < 0
    assert int(refused.sum()) > 0 and (k == 2 or int(refused.sum()) < len(p))
    with pytest.raises(ValueError, match="probability vectors in which no entry is above") as error:
        mp.quantize(p, codewords, offsets)
    assert str(present[0]) in str(error.value)


# Sums that come back to one in 32 or 64 bits, whatever their lanes.
OVERFLOWING: dict[str, tuple[int, dict[int, float]]] = {
    "nine ones in a lane": (129, dict.fromkeys(range(0, 129, 16), 1.0)),
    "nine ones": (9, dict.fromkeys(range(9), 1.0)),
    "infinite ends": (17, {0: math.inf, 1: 1.0, 16: math.inf}),
    "large ends": (17, {0: 4.0, 1: 1.0, 16: 4.0}),
    "two infinite ones": (3, {0: math.inf, 1: math.inf, 2: 1.0}),
    "a large one": (2, {0: 5.0, 1: 1.0}),
    "an infinite one": (2, {0: math.inf, 1: 1.0}),
    "five ones in a long row": (400, dict.fromkeys(range(0, 400, 80), 1.0)),
}


@pytest.mark.parametrize("name", OVERFLOWING)
def test_codewords_whose_sum_overflows_are_refused(name: str) -> None:
    k, entries = OVERFLOWING[name]
    words = codewords_of(k, 2).clone()
    words[0, 1] = torch.tensor([entries.get(j, 0.0) for j in range(k)])
    p = torch.zeros(2, k)
    p[0, 0] = p[1, 1] = 1
    agree(p, words, None)
    assert mp.quantize(p, words, validate=False)[1].tolist()[0] == -1


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_codewords_are_renormalised(dtype: torch.dtype, backend: str) -> None:
    words = codewords_of(10, 3) * (1 + 9e-5 * torch.linspace(-1, 1, 3)[:, None])
    p = rows_of(10, 5).to(dtype)
    q, _ = mp.quantize(p, words, backend=backend)
    assert float((q.double().sum(1) - 1).abs().max()) <= 6 * torch.finfo(dtype).eps
    assert len(q.unique(dim=0)) <= 30


@pytest.mark.parametrize("backend", [None, *BACKENDS])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", [5, 17, 400])
def test_out_receives_the_answers(k: int, dtype: torch.dtype, backend: str | None) -> None:
    p, words = rows_of(k, 3).to(dtype), codewords_of(k, 3)
    expected, same = mp.quantize(p, words, backend=backend)
    wide = torch.full((len(p), k + 9), math.nan, dtype=dtype)
    spread = torch.full((k, len(p)), math.nan, dtype=dtype).t()
    for out in (torch.full_like(p, math.nan), wide[:, 3 : k + 3], spread, p):
        version = out._version
        q, number = mp.quantize(p, words, out=out, backend=backend)
        assert q is out and torch.equal(out, expected) and torch.equal(number, same)
        assert out._version > version
    assert bool(wide[:, :3].isnan().all() & wide[:, k + 3 :].isnan().all())


def test_out_over_the_codewords_is_refused() -> None:
    words = codewords_of(4, 1).clone()
    for out in (words[:, 0], words.view(4, 4)):
        with pytest.raises(ValueError, match="share no memory with codewords"):
            mp.quantize(P[:4], words, out=out)
    offsets = torch.zeros(4, 4)
    with pytest.raises(ValueError, match="share no memory with offsets"):
        mp.quantize(P[:4], codewords_of(4, 4), offsets, out=offsets)


def test_out_with_a_gradient_is_refused() -> None:
    p, words = rows_of(5, 1).float(), codewords_of(5, 2)
    for wanting in (0, 1):
        given = [p.clone(), words.clone()]
        given[wanting].requires_grad_()
        with pytest.raises(RuntimeError, match="expected no argument that requires grad"):
            torch.ops.mipoison.quantize_out(*given, None, torch.empty_like(p))
    assert not mp.quantize(p.requires_grad_(), words)[0].requires_grad


P, WORDS = draw("plain", 6, 4).float(), codewords_of(4, 2)
WRONG: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "float64": (lambda: mp.quantize(P, WORDS.double()), TypeError, r"float32, got float64; use"),
    "two dimensions": (lambda: mp.quantize(P, WORDS[:, 0]), ValueError, r"shape \(4, M, 4\)"),
    "none": (lambda: mp.quantize(P, WORDS[:, :0]), ValueError, "M >= 1"),
    "other classes": (lambda: mp.quantize(P, codewords_of(5, 2)), ValueError, r"got \(5, 2, 5\)"),
    "offsets": (lambda: mp.quantize(P, WORDS, torch.zeros(4)), ValueError, r"shape \(4, 2\)"),
    "device": (lambda: mp.quantize(P, WORDS.to("meta")), ValueError, "expected codewords on cpu"),
    "words": (lambda: mp.quantize(P, "words"), TypeError, "expected codewords to be"),
    "overlap": (
        lambda: mp.quantize(P, WORDS, out=WORDS[0, :1].expand(6, 4)),
        ValueError,
        "memory of their own",
    ),
    "rows": (lambda: mp.quantize(P * 2, WORDS), ValueError, "expected p to be probability vectors"),
}


@pytest.mark.parametrize("what", WRONG)
def test_errors_say_what_is_wrong(what: str) -> None:
    call, error, words = WRONG[what]
    with pytest.raises(error, match=words):
        call()


def test_the_operator_refuses_what_it_cannot_read() -> None:
    quantize: Any = torch.ops.mipoison.quantize
    with pytest.raises((RuntimeError, ValueError), match="codewords of float32"):
        quantize(torch.zeros(3, 0), torch.zeros(0, 1, 0), None)
    for bad in (WORDS.double(), WORDS[0], WORDS[:, :, :3], WORDS[:, :0], WORDS[:3]):
        with pytest.raises((RuntimeError, ValueError), match="codewords of float32"):
            quantize(P, bad, None)
    for bad in (torch.zeros(4, 3), torch.zeros(4, 2).double(), torch.zeros(8)):
        with pytest.raises((RuntimeError, ValueError), match="offsets of float32"):
            quantize(P, WORDS, bad)


def test_arrays_and_lists() -> None:
    q, number = mp.quantize(P.numpy(), WORDS.numpy())
    assert isinstance(q, np.ndarray) and isinstance(number, np.ndarray)
    expected, same = mp.quantize(P, WORDS.tolist())
    assert np.array_equal(q, expected.numpy()) and np.array_equal(number, same.numpy())
    spread: Tensor = WORDS.transpose(0, 2).contiguous().transpose(0, 2)
    assert torch.equal(mp.quantize(P, spread)[0], expected)
