"""Guarantee 4: every bad input has an answer, and no failure lets an undefended vector out."""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Callable
from typing import Any

import pytest
import torch
from at_once import at_once
from distributions import directions, draw
from later import later
from operands import goal_of, packed
from table import codewords_of
from torch import Tensor

import mipoison as mp
from mipoison.defenses.base import COUNTING
from mipoison.defenses.baselines import LabelOnly, LaplaceNoise, Rounding
from mipoison.neutral import neutral
from mipoison.reference import label_of, valid_rows

K = 10


_BAD_ROWS = {
    "nan": (
        lambda p: p.index_fill(0, torch.tensor([1]), math.nan),
        "it holds NaN or Inf); leave such rows out",
    ),
    "inf": (lambda p: p.index_fill(0, torch.tensor([1]), math.inf), "it holds NaN or Inf"),
    "negative": (lambda p: p - torch.eye(4, K) * 0.9, "its smallest entry is -"),
    "sum": (lambda p: p * 1.01, r"its sum is 1.01); rounded rows go in as p / p.sum"),
    "logits": (lambda p: p.log() + 9, "torch.softmax"),
}


@pytest.mark.parametrize("kind", _BAD_ROWS)
def test_rows_that_are_no_probabilities_are_named(fitted: dict[str, mp.LPA], kind: str) -> None:
    spoil, words = _BAD_ROWS[kind]
    bad = spoil(draw("flat", 4, K).float())
    calls: list[Callable[[], object]] = [
        lambda: mp.lpa(bad),
        lambda: mp.lfp(bad),
        lambda: mp.flip(bad, rate=0.5),
        lambda: mp.move(bad, bad, epsilon=0.1),
        lambda: mp.quantize(bad, codewords_of(K, 2)),
        lambda: mp.recover(bad, packed(K)),
        lambda: mp.perturb(bad, goal_of(4), packed(K), steps=1, alpha=0.1),
        lambda: mp.project(torch.zeros_like(bad), center=bad, epsilon=0.1),
        lambda: mp.step(
            torch.zeros_like(bad), torch.ones_like(bad), center=bad, alpha=0.1, epsilon=0.1
        ),
        *(lambda d=d: d(bad) for d in fitted.values()),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"rows? (0, )?1") as error:
            call()
        assert words in str(error.value)


def test_on_invalid_label_answers_safely_and_counts() -> None:
    outputs, inputs = draw("plain", 60, K).float(), torch.rand(60, 5)
    p = draw("plain", 6, K).float()
    p[1, 3] = math.nan
    p[4] *= 3
    for defense in (
        mp.LPA.fit(outputs, inputs, key=1, on_invalid="label"),
        mp.LPA.fit(outputs, inputs, objective="generator", key=1, on_invalid="label"),
        mp.LFP.fit(outputs, inputs, key=1, on_invalid="label"),
        LabelOnly(on_invalid="label"),
        LaplaceNoise(key=1, on_invalid="label"),
        Rounding(on_invalid="label"),
    ):
        q = defense(p)
        assert torch.equal(q[1], torch.full((K,), 1 / K))
        assert float(q[4].max()) == 1.0 and int(q[4].argmax()) == int(p[4].argmax())
        assert defense.failures == 2
        clean = defense(p[[0, 2, 3, 5]])
        assert torch.equal(q[[0, 2, 3, 5]], clean) and defense.failures == 2


def test_threads_lose_no_counts() -> None:
    defense = LaplaceNoise(key=1, on_invalid="label")
    flips = mp.LFP(rate=1.0, audit=True, key=1)
    bad, good = torch.tensor([[0.5, 0.7, 0.1]]), torch.tensor([[0.5, 0.3, 0.2]])

    def ask() -> None:
        for _ in range(100):
            defense(bad)
            flips(good)

    at_once([ask] * 8)
    assert defense.failures == 800
    audit = flips.audit
    assert audit is not None
    assert audit.rows == audit.flipped == sum(audit.by_label.values()) == 800


def test_forked_child_resets_precision() -> None:
    """A thread that was inside, or counting, at the fork is not there to leave."""

    def child(connection: Any) -> None:
        defense = LaplaceNoise(key=1, on_invalid="label")
        torch.set_float32_matmul_precision("medium")
        defense(torch.tensor([[0.5, 0.7, 0.1]]))
        inside = torch.backends.mkldnn.matmul.fp32_precision
        with neutral(torch.device("cpu")):
            connection.send((inside, torch.backends.mkldnn.matmul.fp32_precision))

    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    torch.set_float32_matmul_precision("medium")
    try:
        with COUNTING, neutral(torch.device("cpu")):
            process = context.Process(target=child, args=(there,))
            process.start()
        assert here.poll(20), "the child hangs"
        assert here.recv() == ("bf16", "ieee")
        process.join(10)
        assert process.exitcode == 0
    finally:
        process.kill()
        torch.set_float32_matmul_precision("highest")


def test_without_validation_no_undefended_row_is_returned() -> None:
    p = draw("plain", 3, K).float()
    p[1, 0] = math.nan
    g = directions(3, K).float()
    q = mp.step(p, g, center=p, alpha=0.1, epsilon=0.1, validate=False)
    assert torch.equal(q[1], torch.full((K,), 1 / K))
    other = (label_of(p) + 1) % K
    empty = mp.project(g, center=p, label=other, epsilon=0.0, validate=False)
    assert float(empty[0, other[0]]) == 1.0


def perturbed(p: Tensor, **given: Any) -> Tensor:
    """Rows after one step, but for what is given otherwise."""
    usual = {"goal": goal_of(len(p)), "network": packed(K), "steps": 1, "alpha": 0.1}
    return mp.perturb(p, **usual | given)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda p: mp.lpa(p[:, :1] * 0 + 1), ValueError, "K >= 2"),
        (lambda p: mp.lpa(p[0]), ValueError, r"vector\[None, :\]"),
        (lambda p: mp.lpa(p[None]), ValueError, r"shape \[N, K\]"),
        (lambda p: mp.lpa(p.long()), TypeError, "int64"),
        (lambda p: mp.lpa({"p": p}), TypeError, "got dict"),
        (lambda p: mp.lpa(p.numpy().astype("int32")), TypeError, "int32"),
        (lambda p: mp.lpa(p, epsilon=-0.1), ValueError, "got -0.1"),
        (lambda p: mp.lpa(p, epsilon=0), ValueError, r"\(0, 2\]"),
        (lambda p: mp.lpa(p, epsilon=math.nan), ValueError, "nan"),
        (lambda p: mp.lpa(p, epsilon="much"), TypeError, "got str"),
        (lambda p: mp.lpa(p, norm="l3"), ValueError, "'l3'"),
        (lambda p: mp.lpa(p, key="text"), TypeError, "int, bytes or None"),
        (lambda p: mp.lfp(p, rate=1.5), ValueError, "rate"),
        (lambda p: mp.project(p, epsilon=0.1), ValueError, "center"),
        (lambda p: mp.project(p, center=p, epsilon=-1.0), ValueError, "epsilon"),
        (lambda p: mp.project(p, center=p[:, :5]), ValueError, "shape"),
        (lambda p: mp.project(p, center=p.double()), ValueError, "dtype"),
        (lambda p: mp.project(p, margin=2.0), ValueError, "margin"),
        (lambda p: mp.project(p, label=[0.5] * 4), TypeError, "integers"),
        (lambda p: mp.project(p, label=[0]), ValueError, "shape"),
        (lambda p: mp.project(p, label=[0, 1, 2, 99]), ValueError, "99 in row 3"),
        (lambda p: mp.project(p, center=p, label=[9] * 4, epsilon=0.0), ValueError, "empty set"),
        (lambda p: mp.step(p, p * math.inf, alpha=1.0), ValueError, "expected g to be finite"),
        (lambda p: mp.move(p, p.flip(1), epsilon=0.1), ValueError, "label of p"),
        (lambda p: mp.move(p, p, epsilon=0.1, norm="l2", style="waterfill"), ValueError, "'l1'"),
        (lambda p: mp.flip(p, targets=[0, 1, 2, 10], rate=1.0), ValueError, "10 in row 3"),
        (lambda p: mp.recover(p, torch.nn.Identity()), TypeError, "mp.Surrogate.fit"),
        (lambda p: perturbed(p, goal=goal_of(3)), ValueError, r"goal of shape \(4, C\)"),
        (lambda p: perturbed(p, goal=goal_of(4)[:, 0]), ValueError, "1 <= C <= 32"),
        (lambda p: perturbed(p, goal=p.expand(4, K).repeat(1, 4)), ValueError, "1 <= C <= 32"),
        (lambda p: perturbed(p, goal=goal_of(4) / 0), ValueError, "expected goal to be finite"),
        (lambda p: perturbed(p, steps=0), ValueError, "steps"),
        (lambda p: perturbed(p, alpha=math.nan), ValueError, "alpha"),
        (lambda p: perturbed(p, near=torch.ones(3)), ValueError, r"near of shape \(4,\)"),
        (lambda p: perturbed(p, near=torch.tensor([1.0, 1.0, 0.0, 1.0])), ValueError, "in row 2"),
        (lambda p: perturbed(p, center=p[:, :5]), ValueError, "shape"),
        (lambda p: perturbed(p, margin=0.9, epsilon=0.0), ValueError, "empty set"),
        (lambda p: mp.row_bits(p, draw=-1), ValueError, "draw"),
        (lambda p: mp.row_bits(p, words=0), ValueError, "words"),
        (lambda p: mp.step(p, p, alpha=0.1, backend="cuda"), ValueError, "'cuda'"),
        (lambda p: mp.step(p, p, alpha=0.1, backend="triton"), RuntimeError, "triton"),
        (lambda p: mp.LPA.fit(p, torch.rand(3, 2)), ValueError, "4"),
        (lambda p: mp.LPA.fit(p, torch.rand(4, 2), budget=3.0), ValueError, "budget"),
        (lambda p: mp.LPA.fit(p, torch.rand(4, 2), objective="magic"), ValueError, "decoy"),
        (lambda p: mp.Surrogate.fit(p, torch.full((4, 2), math.nan)), ValueError, "inputs"),
        (lambda p: mp.LFP(targets="surrogate"), ValueError, "LFP.fit"),
        (lambda p: mp.Defended(torch.nn.Identity(), lambda q: q), TypeError, "mp.LPA"),
    ],
)
def test_wrong_arguments_say_what_was_expected(
    call: Callable[[Tensor], object], error: type[Exception], words: str
) -> None:
    p = draw("plain", 4, K).float()
    with pytest.raises(error, match=words) as caught:
        call(p)
    assert "expected" in str(caught.value) or "triton" in str(caught.value)


def test_another_number_of_classes_is_refused(fitted: dict[str, mp.LPA]) -> None:
    with pytest.raises(ValueError, match="K=10 classes, as fitted, got K=7"):
        fitted["decoy"](draw("plain", 3, 7).float())


def test_a_label_without_bank_vectors_still_moves() -> None:
    outputs = draw("plain", 80, K)
    outputs = outputs[label_of(outputs) != 3].float()
    defense = mp.LPA.fit(outputs, torch.rand(len(outputs), 4), key=0)
    rows = torch.zeros(3, K)
    rows[0, 3] = 1.0
    rows[1] = torch.full((K,), 0.05)
    rows[1, 3] = 0.55
    rows[2] = torch.softmax(torch.eye(K)[3], 0)
    q = defense(rows)
    assert (label_of(q) == 3).all()
    assert ((q - rows).abs().sum(1) > 0.05).all()


def _child(p: Tensor, g: Tensor, queue: multiprocessing.Queue[bytes]) -> None:
    torch.set_num_threads(2)
    # Read through NumPy: torch's own thread pool is what does not survive a fork.
    queue.put(mp.step(p, g, alpha=0.1).numpy().tobytes())


def test_a_forked_child_does_not_hang() -> None:
    p, g = draw("plain", 2000, 100).float(), directions(2000, 100).float()
    torch.set_num_threads(2)
    answer = mp.step(p, g, alpha=0.1).numpy().tobytes()
    context = multiprocessing.get_context("fork")
    queue: multiprocessing.Queue[bytes] = context.Queue()
    child = context.Process(target=_child, args=(p, g, queue))
    child.start()
    try:
        assert queue.get(timeout=60) == answer
    finally:
        child.kill()


@pytest.mark.parametrize("distribution", ["one-hot", "ties", "peaked"])
@pytest.mark.parametrize("k", [*later(2, 3), 10])
def test_no_row_is_answered_unmoved(k: int, distribution: str) -> None:
    p = draw(distribution, 60, k).float()
    outputs, inputs = draw("plain", 60, k).float(), torch.rand(60, 5)
    for objective in ("decoy", "ascent", "direction", "alignment", "alignment-full"):
        for key in range(2):
            q = mp.LPA.fit(outputs, inputs, objective=objective, epsilon=0.1, key=key)(p)
            # A row that moves less than a thousandth of epsilon counts as bare.
            assert float((q - p).abs().sum(1).min()) > 0.99e-4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_rows_at_the_edge_of_the_tolerance_are_defended(
    fitted: dict[str, mp.LPA], dtype: torch.dtype
) -> None:
    """Sums off by what is just accepted: behind the edge no operation may judge them again and refuse."""
    generator = torch.Generator().manual_seed(0)
    wide = dtype in (torch.float32, torch.float64)
    # As near the edge as the dtype's own rounding lets enough rows stay inside.
    tolerance = 1e-4 - 10 * torch.finfo(dtype).eps if wide else 1e-2
    p = torch.rand(400, K, generator=generator, dtype=torch.float64)
    sign = torch.where(torch.arange(400) % 2 == 0, 1.0, -1.0).double().unsqueeze(1)
    p = (p / p.sum(1, keepdim=True) * (1 + sign * tolerance)).to(dtype)
    p = p[valid_rows(p)]
    assert len(p) > 100
    exact = p.double() / p.double().sum(1, keepdim=True)
    for name in ("equilibrium", "decoy", "ascent", "direction", "alignment", "alignment-full"):
        q = fitted[name](p).double()
        slack = 2e-7 if wide else (K + 2) * torch.finfo(dtype).eps
        assert float((q - exact).abs().sum(1).max()) <= 0.2 + slack
        assert torch.equal(label_of(q), label_of(p)) and float(q.max()) < 0.99


def test_points_too_far_to_project_are_refused() -> None:
    far = directions(3, K) * torch.tensor([[1.0], [1e17], [1.0]], dtype=torch.float64)
    with pytest.raises(ValueError, match=r"within 1e\+15 of zero, got larger entries in row 1"):
        mp.project(far)
    assert float(mp.project(far, label=[4] * 3, validate=False)[1, 4]) == 1.0


@pytest.mark.parametrize("dtype", [torch.float32, *later(torch.float64)])
def test_a_lead_of_one_ulp_survives_renormalisation(
    fitted: dict[str, mp.LPA], dtype: torch.dtype
) -> None:
    """Dividing two neighbouring numbers by the sum can make them equal, and a tie goes to the lower index."""
    # It happens to about one row in ten thousand.
    p = draw("flat", 100_000, K)
    p[:, 1] = p[:, 7] = p.amax(1)
    p = (p / p.sum(1, keepdim=True) * (1 + 9e-5)).to(dtype)
    p[:, 7] = torch.nextafter(p[:, 1], torch.ones_like(p[:, 1]))
    assert valid_rows(p).all() and (label_of(p) == 7).all()
    for name in ("direction", "rounding", "label-only"):
        assert (label_of(fitted[name](p)) == 7).all()
