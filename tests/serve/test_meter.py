"""A meter answers as its defense does, and loses no count: under threads, over processes, in copies."""

from __future__ import annotations

import copy
import dataclasses
import functools
import io
import json
import math
import multiprocessing
import pickle
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from at_once import at_once
from distributions import draw
from torch import Tensor, nn

import mipoison as mp
from mipoison.defenses import Defense, LabelOnly, LaplaceNoise, Rounding
from mipoison.serve import BOUNDS, Expected, Lengths, Readings
from mipoison.serve.readings import UNIT

K = 10
_EDGE = 2 ** (1 / 16)


class Unmoved(Defense):
    """Leaves every row as it is."""

    name = "unmoved"

    def answer(self, p: Tensor) -> Tensor:
        return p.clone()


def rows(n: int = 60, seed: int = 0) -> Tensor:
    return draw("plain", n, K, seed).float()


def noise(**given: Any) -> LaplaceNoise:
    return LaplaceNoise(scale=0.05, key=1, **given)


def moves(defense: Defense, p: Tensor) -> Tensor:
    """‖q − p‖₁ of renormalised rows, float64 [N]."""
    clean = p.double() / p.double().sum(1, keepdim=True)
    return (defense(p).double() - clean).abs().sum(1)


# The same answers.


def test_it_answers_with_the_same_bits(fitted: dict[str, Any]) -> None:
    p = rows(40)
    for name, defense in fitted.items():
        meter = mp.Meter(defense)
        for given in (p, p.double(), p.half(), p.bfloat16(), p[:0]):
            found = meter(given)
            assert torch.equal(found, defense(given)) and found.dtype == given.dtype, name
            assert torch.equal(meter(given, validate=False), defense(given, validate=False)), name
        assert meter.read().rows == 8 * 40 and meter.read().batches == 10, name


def test_it_answers_in_the_kind_of_the_outputs() -> None:
    p, meter = rows(3), mp.Meter(noise())
    assert isinstance(meter(p.numpy()), np.ndarray)
    assert np.array_equal(meter(p.tolist()), noise()(p.tolist()))
    assert isinstance(meter(list(p)), Tensor)
    ids = [b"a", b"b", b"a"]
    assert torch.equal(meter(p, ids=ids), noise()(p, ids=ids))
    assert not torch.equal(meter(p, ids=ids), meter(p))


@pytest.mark.parametrize(
    "ask",
    [
        lambda d: d(rows() * 3),
        lambda d: d(torch.full((2, K), math.nan)),
        lambda d: d(rows()[0]),
        lambda d: d(rows().long()),
        lambda d: d({"p": 1}),
        lambda d: d(rows(), validate="yes"),
        lambda d: d(rows(), ids=[1]),
        lambda d: d(rows(), ids=7),
    ],
)
def test_it_raises_the_same_errors_and_counts_them(ask: Callable[[Any], object]) -> None:
    meter = mp.Meter(noise())
    with pytest.raises((TypeError, ValueError)) as told:
        ask(meter)
    with pytest.raises(type(told.value)) as expected:
        ask(noise())
    assert str(told.value) == str(expected.value)
    seen = meter.read()
    assert (seen.errors, seen.rows, seen.batches) == (1, 0, 0)


def test_it_is_a_defense_to_the_wrapper() -> None:
    meter, model = mp.Meter(noise(on_invalid="label")), nn.Softmax(-1)
    served = mp.Defended(model, meter)
    x = torch.randn(5, K)
    x[2] = math.nan
    assert torch.equal(served(x), mp.Defended(model, noise(on_invalid="label"))(x))
    assert served.failures == meter.failures == meter.read().failures == 1
    assert (meter.ball, meter.classes, meter.margin) == (noise().ball, None, noise().margin)
    assert meter.on_invalid == "label" and meter.keeps_labels
    assert not mp.Meter(mp.LFP(key=1)).keeps_labels


# What is counted.


def test_readings_are_what_was_answered() -> None:
    p, defense = rows(500), noise()
    meter = mp.Meter(defense, window=200)
    for some in p.split((1, 2, 7, 190, 300)):
        meter(some)
    seen = meter.read()
    for found, l1 in (
        (seen.since_start, moves(defense, p)),
        (seen.window, moves(defense, p)[-200:]),
    ):
        assert found.rows == len(l1) == sum(found.l1.bins)
        assert found.l1.mean == pytest.approx(float(l1.mean()), abs=1e-6)
        assert found.l1.most == pytest.approx(float(l1.max()), abs=1e-6)
        for share, told in ((0.5, found.l1.p50), (0.9, found.l1.p90), (0.99, found.l1.p99)):
            true = float(l1.sort().values[math.ceil(share * len(l1)) - 1])
            assert true * (1 - 1e-6) <= told <= true * _EDGE * (1 + 1e-6)
        bins = np.histogram(l1.numpy(), [-1.0, *BOUNDS])[0]
        assert found.l1.bins == tuple(bins)
        assert found.distance is None and found.far == 0


def test_window_holds_the_last_rows_whatever_the_batches() -> None:
    p = rows(1000)
    for sizes in ((1000,), (150,) * 6 + (100,), (1,) * 130 + (870,), (99, 101, 100, 700)):
        meter = mp.Meter(noise(), window=100)
        for some in p.split(sizes):
            meter(some)
        alone = mp.Meter(noise(), window=100)
        alone(p[-100:])
        assert meter.read().window == alone.read().window == alone.read().since_start


def test_before_the_first_row_all_is_zero() -> None:
    seen = mp.Meter(noise()).read()
    assert (seen.rows, seen.drifting, seen.reason, seen.expected) == (0, 0, "", None)
    assert seen.window == seen.since_start and seen.window.l1 == Lengths.of(0.0, 0.0, [0] * 230)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_unchanged_is_up_to_the_rounding_of_the_dtype(dtype: torch.dtype) -> None:
    wide = dtype in (torch.float32, torch.float64)
    p = (rows(400).double() * (1 + (5e-5 if wide else 5e-3))).to(dtype)
    meter = mp.Meter(Unmoved())
    meter(p)
    assert meter.read().since_start.unchanged == 400
    moved = mp.Meter(noise())
    moved(p)
    assert moved.read().since_start.unchanged < 40


def test_failures_are_counted_with_and_without_validation() -> None:
    p = rows(6)
    p[1, 3] = math.nan
    p[4] *= 3
    meter = mp.Meter(noise(on_invalid="label"))
    meter(p)
    meter(p, validate=False)
    seen = meter.read()
    assert (seen.rows, seen.failures, seen.since_start.rows) == (12, 4, 8)
    # The defense itself counts with validation alone.
    assert meter.failures == 2
    good = mp.Meter(noise())
    good(p[[0, 2, 3, 5]])
    good(p[[0, 2, 3, 5]])
    assert seen.since_start == good.read().since_start


def test_distance_is_to_the_nearest_other_vector_of_the_bank() -> None:
    outputs, inputs = rows(200), torch.rand(200, 6)
    defense = mp.LPA.fit(outputs, inputs, objective="decoy", key=1)
    p = torch.cat((rows(50, seed=3), outputs[:10]))
    meter = mp.Meter(defense)
    meter(p)
    bank, label = outputs.double(), outputs.argmax(1)
    near = torch.cdist(p.double(), bank, p=1.0)
    near[p.argmax(1).unsqueeze(1) != label] = math.inf
    near[near < 1e-6] = math.inf
    expected = near.amin(1)
    known = expected < math.inf
    found = meter.read().since_start.distance
    assert found is not None and bool(known.all())
    assert found.mean == pytest.approx(float(expected.mean()), abs=1e-5)
    assert found.most == pytest.approx(float(expected.max()), abs=1e-5)


# Nothing is lost.


def test_threads_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    count_nonzero = np.count_nonzero

    def yielding(x: Any) -> Any:
        """Lets another thread run in the middle of a sum."""
        time.sleep(0)
        return count_nonzero(x)

    monkeypatch.setattr(np, "count_nonzero", yielding)
    p = rows(4000)
    p[::8, 0] = 2.0
    meter = mp.Meter(mp.LFP(rate=0.5, key=1, on_invalid="label"), window=4000)

    def ask(part: Tensor) -> None:
        for i, row in enumerate(part.split(1)):
            meter(row, validate=i % 2 == 0)

    at_once([functools.partial(ask, part) for part in p.split(1000)])
    alone = mp.Meter(mp.LFP(rate=0.5, key=1, on_invalid="label"), window=4000)
    alone(p)
    seen, expected = meter.read(), alone.read()
    assert (seen.rows, seen.batches, seen.failures) == (4000, 4000, 500)
    # Every eighth is at an even place of its thread.
    assert meter.failures == 500
    assert seen.since_start == expected.since_start and seen.window == expected.window


def test_readings_of_several_merge_to_those_of_one() -> None:
    p, together = rows(999), mp.Meter(noise(), window=5000)
    together(p)
    apart = [mp.Meter(noise(), window=5000) for _ in range(4)]
    for i, some in enumerate(p.split(37)):
        apart[i % 4](some)
    readings = [meter.read() for meter in apart]
    merged = mp.Meter.merge(readings)
    assert merged.since_start == merged.window == together.read().window
    assert (merged.rows, merged.batches) == (999, 27)
    assert (
        merged
        == Readings.merge(reversed(readings))
        == Readings.merge([Readings.merge(readings[:2]), Readings.merge(readings[2:])])
    )
    with pytest.raises(ValueError, match="expected readings to merge, got none"):
        mp.Meter.merge([])


def test_readings_are_plain_numbers() -> None:
    meter = mp.Meter(noise(), expected=rows(50, seed=2))
    meter(rows(70))
    seen = meter.read()
    text = json.dumps(dataclasses.asdict(seen))
    assert Readings.from_dict(json.loads(text)) == seen
    assert pickle.loads(pickle.dumps(seen)) == seen
    with pytest.raises(dataclasses.FrozenInstanceError):
        seen.rows = 3  # type: ignore[misc]


def test_sums_are_exact_in_any_order() -> None:
    total = Lengths.merge([Lengths.of(UNIT, UNIT, [1] + [0] * 229)] * 1000).total
    assert total == 1000 * UNIT


@pytest.mark.skipif(not hasattr(multiprocessing, "get_context"), reason="needs fork")
def test_a_forked_child_counts_from_zero() -> None:
    meter = mp.Meter(noise())
    meter(rows(5))

    def child(connection: Any) -> None:
        before = meter.read().rows
        meter(rows(7))
        connection.send((before, meter.read()))

    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    with meter._lock:
        process = context.Process(target=child, args=(there,))
        process.start()
    try:
        assert here.poll(20), "the child hangs"
        before, seen = here.recv()
    finally:
        process.kill()
    assert before == 0 and seen.rows == 7
    assert mp.Meter.merge([meter.read(), seen]).rows == 12


def test_a_copy_counts_from_zero() -> None:
    meter = mp.Meter(Rounding(1), window=300)
    expected = meter(rows(9))
    for twin in (copy.deepcopy(meter), pickle.loads(pickle.dumps(meter))):
        assert twin.read().rows == 0 and twin.window == 300
        assert torch.equal(twin(rows(9)), expected)
        assert twin.read().rows == meter.read().rows == 9
    with pytest.raises(TypeError, match="a Key is never serialised"):
        pickle.dumps(mp.Meter(noise()))
    fitted = mp.LPA.fit(rows(60), torch.rand(60, 3), objective="decoy", key=1)
    twin = copy.deepcopy(mp.Meter(fitted))
    assert twin._banks[0] is twin.defense.objective.bank  # type: ignore[union-attr]


def test_its_state_is_that_of_the_defense() -> None:
    fitted = mp.LPA.fit(rows(60), torch.rand(60, 3), objective="decoy", key=1)
    state = mp.Meter(fitted).state_dict()
    assert set(state) == {f"defense.{name}" for name in fitted.state_dict()}


def test_another_key_is_that_of_the_defense() -> None:
    told = Expected(rows=9, kept_out=True, l1=0.1, deviation=0.1, unchanged=0.0)
    meter = mp.Meter(noise(), window=300, on_drift="label", expected=told)
    meter(rows(9))
    rotated = meter.with_key(2)
    assert torch.equal(rotated(rows(9)), noise().with_key(2)(rows(9)))
    assert not torch.equal(rotated(rows(9)), noise()(rows(9)))
    assert (rotated.window, rotated.on_drift, rotated.expected) == (300, "label", told)
    assert rotated.read().rows == 18 and meter.read().rows == 9


# Graphs, and arguments.


def test_a_compiled_graph_breaks_before_it() -> None:
    torch._dynamo.reset()
    meter = mp.Meter(noise())
    served = mp.Defended(nn.Softmax(-1), meter, validate=False)
    x = torch.randn(6, K)
    found = torch.compile(served, backend="eager")(x)
    assert torch.equal(found, served(x)) and meter.read().rows == 12
    torch._dynamo.reset()
    with pytest.raises(torch._dynamo.exc.Unsupported):
        torch.compile(served, backend="eager", fullgraph=True)(x)


def test_nothing_is_answered_uncounted() -> None:
    meter = mp.Meter(Rounding(1))
    served = mp.Defended(nn.Softmax(-1), meter, validate=False)
    with pytest.raises(RuntimeError, match=r"expected a meter outside torch\.export"):
        torch.export.export(served, (torch.randn(3, K),))
    with pytest.raises(RuntimeError, match="expected a meter outside"):
        torch.vmap(lambda p: meter(p, validate=False))(torch.full((2, 3, K), 1 / K))
    assert meter.read().rows == 0


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: mp.Meter(nn.Identity()), TypeError, "mipoison Defense"),
        (lambda: mp.Meter(mp.Meter(noise())), TypeError, "pass its defense"),
        (lambda: mp.Meter(noise(), window=99), ValueError, ">= 100"),
        (lambda: mp.Meter(noise(), on_drift="panic"), ValueError, "'refuse'"),
        (lambda: mp.Meter(noise(), on_drift="refuse"), ValueError, "pass expected="),
        (lambda: mp.Meter(noise(), callbacks=print), TypeError, r"callbacks=\[f\]"),
        (lambda: mp.Meter(noise(), callbacks=["f"]), TypeError, "functions, got str"),
        (lambda: mp.Meter(noise(), expected=rows(1)), ValueError, "two rows or more"),
        (lambda: mp.Meter(noise(), expected=rows() * 3), ValueError, "probability vectors"),
        (lambda: mp.Meter(noise(), expected="rows"), TypeError, "expected"),
        (
            lambda: Expected(rows=1, kept_out=True, l1=0.1, deviation=0.1, unchanged=0.0),
            ValueError,
            "rows",
        ),
        (
            lambda: Expected(rows=9, kept_out=True, l1=3.0, deviation=0.1, unchanged=0.0),
            ValueError,
            "l1",
        ),
        (lambda: mp.Meter(noise()).save(io.BytesIO()), TypeError, "save its defense"),
    ],
)
def test_wrong_arguments_are_named(
    make: Callable[[], object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as told:
        make()
    assert "expected" in str(told.value)


def test_label_only_moves_rows_far() -> None:
    meter = mp.Meter(LabelOnly())
    meter(rows())
    assert meter.read().window.l1.most <= 2.0 and meter.read().window.l1.p50 > 0.5


def test_what_is_no_reading_is_refused() -> None:
    with pytest.raises(TypeError, match="expected readings to merge, got int"):
        mp.Meter.merge([1])  # type: ignore[list-item]
    with pytest.raises(TypeError, match=r"expected what dataclasses\.asdict gave, got int"):
        Readings.from_dict(3)  # type: ignore[arg-type]
