"""Micro-batching: equal answers however requests share batches, and a request's failure is its own."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from serving import moved, run

from mipoison.defenses import GaussianNoise, Rounding
from mipoison.keys import Key
from mipoison.serve.batching import Batcher, _Waiting
from mipoison.serve.config.settings import Batching
from mipoison.serve.defending import Answer, Defend, NotAnswered
from mipoison.serve.documents.vectors import Answered, Array
from mipoison.serve.failures import Refused
from mipoison.serve.meter import Meter


def requests(count: int, k: int = 5) -> list[Array]:
    """Rows of requests of one to four rows."""
    generator = torch.Generator().manual_seed(2)
    sizes = [1 + i % 4 for i in range(count)]
    rows = torch.randn(sum(sizes), k, generator=generator, dtype=torch.float64).mul(2)
    return [part.numpy() for part in torch.softmax(rows, -1).split(sizes)]


async def answers(
    answer: Answer, settings: Batching, asked: Sequence[Array], ids: Sequence[str] | None = None
) -> list[Any]:
    """What each request got, or what was raised for it; all are sent at once."""
    async with Batcher(answer, settings) as batcher:
        return await asyncio.gather(
            *(
                batcher.submit(rows, None if ids is None else [ids[i]] * len(rows))
                for i, rows in enumerate(asked)
            ),
            return_exceptions=True,
        )


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("top_k", [None, 2])
def test_answers_do_not_depend_on_batches(top_k: int | None, named: bool) -> None:
    # (Every keyed draw of this defense shows in its answer.)
    defend = Defend(GaussianNoise(key=Key(bytes(range(16)))), decimals=4, top_k=top_k)
    asked = requests(30)
    ids = [f"account {i % 7}" for i in range(30)] if named else None
    alone = [
        defend(rows, None if ids is None else [ids[i]] * len(rows)) for i, rows in enumerate(asked)
    ]
    assert any(
        not np.allclose(one.values[:, :2], rows[:, :2], atol=1e-3)
        for one, rows in zip(alone, asked, strict=True)
    )
    for settings in (
        Batching(max_rows=1),
        Batching(max_rows=7),
        Batching(max_rows=7, wait_ms=5),
        Batching(max_rows=1000, wait_ms=20),
    ):
        got = run(answers(defend, settings, asked, ids))
        for one, other in zip(got, alone, strict=True):
            assert np.array_equal(one.values, other.values)
            if top_k is not None:
                assert np.array_equal(one.classes, other.classes)
                assert np.array_equal(one.rest, other.rest)


def test_requests_share_batches_up_to_their_size() -> None:
    sizes: list[int] = []

    def answer(rows: Array, ids: Any) -> Answered:
        sizes.append(len(rows))
        return moved(rows, ids)

    run(answers(answer, Batching(max_rows=10, wait_ms=20), requests(20)))
    assert sum(sizes) == 50 and max(sizes) <= 10 and len(sizes) <= 7


def test_a_request_larger_than_a_batch_is_one() -> None:
    (got,) = run(answers(moved, Batching(max_rows=2), [requests(4)[3]]))
    assert len(got) == 4


def test_rows_of_several_lengths_are_answered() -> None:
    asked = [requests(1, k)[0] for k in (3, 5, 3, 4)]
    got = run(answers(moved, Batching(wait_ms=10), asked))
    assert [one.values.shape[1] for one in got] == [3, 5, 3, 4]


def test_a_request_fails_alone() -> None:
    bad = np.array([[0.9, 0.1, 0, 0, 0]])

    def answer(rows: Array, ids: Any) -> Answered:
        if (rows[:, 0] == 0.9).any():
            raise ValueError
        return moved(rows, ids)

    asked = [*requests(3), bad, *requests(3)]
    got = run(answers(answer, Batching(wait_ms=10), asked))
    assert isinstance(got[3], ValueError)
    for one, rows in zip(got[:3] + got[4:], asked[:3] + asked[4:], strict=True):
        assert np.array_equal(one.values, moved(rows, None).values)


def test_a_refusal_of_the_defense_is_for_all_and_asked_once() -> None:
    calls: list[int] = []

    def answer(rows: Array, ids: Any) -> Answered:
        calls.append(len(rows))
        raise Refused("drift", "")

    got = run(answers(answer, Batching(wait_ms=10), requests(3)))
    assert [one.reason for one in got] == ["drift"] * 3 and len(calls) == 1


def test_a_full_queue_refuses() -> None:
    gate = threading.Event()

    def answer(rows: Array, ids: Any) -> Answered:
        assert gate.wait(10)
        return moved(rows, ids)

    async def work() -> None:
        async with Batcher(answer, Batching(max_queued_rows=5)) as batcher:
            first = asyncio.create_task(batcher.submit(requests(4)[3], None))
            await asyncio.sleep(0.02)
            second = asyncio.create_task(batcher.submit(requests(1)[0], None))
            await asyncio.sleep(0)
            assert batcher.queued == 5
            with pytest.raises(Refused, match="a full one") as caught:
                await batcher.submit(requests(1)[0], None)
            assert (
                caught.value.reason == "queue_full" and caught.value.headers["retry-after"] == "1"
            )
            gate.set()
            assert len(await first) == 4 and len(await second) == 1 and batcher.queued == 0

    run(work())


def test_a_client_that_has_gone_is_not_answered() -> None:
    gate = threading.Event()
    sizes: list[int] = []

    def answer(rows: Array, ids: Any) -> Answered:
        assert gate.wait(10)
        sizes.append(len(rows))
        return moved(rows, ids)

    async def work() -> None:
        async with Batcher(answer, Batching()) as batcher:
            tasks = [asyncio.create_task(batcher.submit(rows, None)) for rows in requests(4)]
            await asyncio.sleep(0.02)
            later = [asyncio.create_task(batcher.submit(rows, None)) for rows in requests(4)]
            await asyncio.sleep(0.02)
            tasks[0].cancel(), later[1].cancel()
            await asyncio.sleep(0)
            gate.set()
            done = await asyncio.gather(*tasks, *later, return_exceptions=True)
            gone = [i for i, one in enumerate(done) if isinstance(one, asyncio.CancelledError)]
            assert gone == [0, 5] and batcher.queued == 0
        # The first batch was being answered; of the second the request that has gone is left out.
        assert sum(sizes) == 10 + 8

    run(work())


def test_a_defense_that_takes_too_long_is_not_waited_for() -> None:
    def answer(rows: Array, ids: Any) -> Answered:
        time.sleep(0.2)
        return moved(rows, ids)

    (got,) = run(answers(answer, Batching(defense_timeout_s=0.02), requests(1)))
    assert got.reason == "defense_timeout"


def test_leaving_finishes_what_waits_and_then_refuses() -> None:
    async def work() -> None:
        batcher = Batcher(moved, Batching(wait_ms=500))
        async with batcher:
            tasks = [asyncio.create_task(batcher.submit(rows, None)) for rows in requests(8)]
            await asyncio.sleep(0)
        assert [len(one) for one in await asyncio.gather(*tasks)] == [1, 2, 3, 4] * 2
        assert not batcher.alive
        with pytest.raises(Refused, match="shutting down"):
            await batcher.submit(requests(1)[0], None)

    began = time.perf_counter()
    run(work())
    assert time.perf_counter() - began < 0.4


def test_what_counts_batches_fails_no_request(caplog: pytest.LogCaptureFixture) -> None:
    def observe(rows: int, seconds: float) -> None:
        raise OSError("no space left on device")

    async def work() -> None:
        async with Batcher(moved, Batching(), observe) as batcher:
            for rows in requests(2):
                assert np.array_equal(
                    (await batcher.submit(rows, None)).values, moved(rows, None).values
                )

    caplog.set_level("ERROR", "mipoison.serve")
    run(work())
    assert "what counts batches raised" in caplog.text


@pytest.mark.parametrize("kind", [asyncio.CancelledError, StopIteration, SystemExit])
def test_whatever_a_defense_raises_is_an_error_of_one_request(kind: type[BaseException]) -> None:
    bad = np.array([[0.9, 0.1, 0, 0, 0]])

    def answer(rows: Array, ids: Any) -> Answered:
        if (rows[:, 0] == 0.9).any():
            raise kind
        return moved(rows, ids)

    async def work() -> None:
        async with Batcher(answer, Batching()) as batcher:
            with pytest.raises(RuntimeError, match=kind.__name__):
                await batcher.submit(bad, None)
            assert batcher.alive and len(await batcher.submit(requests(1)[0], None)) == 1

    run(work())


@pytest.mark.parametrize("fails", ["count", "answer"])
def test_rows_are_counted_once(fails: str) -> None:
    meter = Meter(Rounding(2))

    def moved(moves: Array) -> None:
        raise OSError("no space left on device")

    defend = Defend(meter, decimals=3, top_k=None, moved=moved)
    if fails == "answer":
        right = defend._answered
        defend._answered = lambda rows, ids: Answered(right(rows, ids).values * 2)  # type: ignore[method-assign]
    got = run(answers(defend, Batching(wait_ms=20), requests(4)))
    assert [isinstance(one, NotAnswered) for one in got] == [fails == "answer"] * 4
    assert meter.read().rows == 10


def test_rows_left_that_fill_a_batch_wait_no_more() -> None:
    async def work() -> None:
        async with Batcher(moved, Batching(max_rows=4, wait_ms=2000)) as batcher:
            began = time.perf_counter()
            await asyncio.gather(*(batcher.submit(requests(4)[3], None) for _ in range(3)))
            assert time.perf_counter() - began < 1

    run(work())


def test_an_error_that_nobody_waits_for_is_not_logged_by_asyncio(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        batcher = Batcher(moved, Batching())
        waiting = _Waiting(requests(1)[0], None, loop.create_future())
        batcher._answered_by(waiting, ValueError("row 0: [0.7312, 0.2688]"))
        del waiting

    run(work())
    gc.collect()
    assert "0.7312" not in caplog.text
