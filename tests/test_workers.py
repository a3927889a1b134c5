"""Pieces that are computed beside each other: the same answers, errors and settings as one after the other."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import pytest
import torch
from distributions import DISTRIBUTIONS, draw
from torch import Tensor

import mipoison as mp
from mipoison.defenses import Rounding, workers
from mipoison.defenses.base import Defense
from mipoison.defenses.pieces import NETWORKS, _threads, in_pieces, pieces
from mipoison.defenses.workers import side_by_side

K, N = 10, 600
PARTS = [slice(i, i + 1) for i in range(8)]


@pytest.fixture(params=[2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(1)


def rows() -> Tensor:
    each = [draw(distribution, N // 7 + 1, K, seed=3) for distribution in DISTRIBUTIONS]
    return torch.cat(each)[:N].float()


def test_every_piece_is_answered_as_the_whole(
    fitted: dict[str, Callable[..., Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    p = rows()
    whole = {name: defense(p) for name, defense in fitted.items()}
    for kind in (Defense, mp.LPA, mp.LFP):
        monkeypatch.setattr(kind, "piece", 150 * K)
    torch.set_num_threads(2)
    try:
        for name, defense in fitted.items():
            assert torch.equal(defense(p), whole[name]), name
            with torch.inference_mode():
                assert torch.equal(defense(p, validate=False), whole[name]), name
    finally:
        torch.set_num_threads(1)


def test_each_part_is_done_once_by_a_thread_that_uses_no_other(threads: int) -> None:
    seen: list[tuple[int, int, bool]] = []
    together = threading.Barrier(threads)

    def work(part: slice) -> None:
        if part.start < threads:
            # Ends only if all threads are at work.
            together.wait(30)
        seen.append((part.start, torch.get_num_threads(), torch.is_grad_enabled()))

    side_by_side(work, PARTS, threads)
    assert sorted(seen) == [(i, 1, False) for i in range(8)]


def test_the_number_of_threads_stays_that_of_the_caller_and_of_new_threads(threads: int) -> None:
    side_by_side(lambda part: None, PARTS, threads)
    found = []
    other = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    other.start()
    other.join()
    assert torch.get_num_threads() == threads and found == [threads]


def test_the_first_error_is_raised(threads: int) -> None:
    both = threading.Barrier(2)

    def work(part: slice) -> None:
        if part.start in (0, 1):
            both.wait(30)
            raise ValueError(f"part {part.start}")

    with pytest.raises(ValueError, match="part 0"):
        side_by_side(work, PARTS, threads)


def test_no_part_is_at_work_after_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    # A thread that cannot start leaves its share of the call in the queue of the pool, where another thread finds it.
    side_by_side(lambda part: None, PARTS[:1], 2)
    workers._in_child()
    release, busy = threading.Event(), threading.Event()

    def hold(part: slice) -> None:
        busy.set()
        release.wait(30)

    other = threading.Thread(target=side_by_side, args=(hold, PARTS[:2], 2))
    other.start()
    assert busy.wait(30)
    begin = threading.Thread.start

    def refused(self: threading.Thread) -> None:
        if self.name.startswith("mipoison"):
            raise RuntimeError("can't start new thread")
        begin(self)

    monkeypatch.setattr(threading.Thread, "start", refused)
    done: list[int] = []

    def work(part: slice) -> None:
        if threading.current_thread().name.startswith("mipoison"):
            time.sleep(0.3)
        else:
            release.set()
            time.sleep(0.05)
        done.append(part.start)

    side_by_side(work, PARTS, 2)
    assert sorted(done) == list(range(8))
    other.join()


def test_a_thread_that_cannot_be_set_up_works_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    workers._in_child()
    torch.set_num_threads(2)
    begin = threading.Thread.start

    def refused(self: threading.Thread) -> None:
        if not self.name.startswith("mipoison"):
            raise RuntimeError("can't start new thread")
        begin(self)

    done: list[int] = []
    try:
        with monkeypatch.context() as context:
            context.setattr(threading.Thread, "start", refused)
            side_by_side(lambda part: done.append(part.start), PARTS, 2)
        assert sorted(done) == list(range(8))
        found: list[int] = []
        other = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
        other.start()
        other.join()
        assert found == [2]
    finally:
        workers._in_child()
        torch.set_num_threads(1)


def test_an_interrupted_call_begins_no_more_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[int] = []

    def work(part: slice) -> None:
        time.sleep(0.05)
        done.append(part.start)

    def interrupted(self: Future[None], timeout: float | None = None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Future, "result", interrupted)
    with pytest.raises(KeyboardInterrupt):
        side_by_side(work, PARTS, 2)
    time.sleep(0.5)
    assert len(done) < 8


def test_threads_share_the_memory_of_two_pieces() -> None:
    torch.set_num_threads(64)
    try:
        p = torch.zeros(4096, 1000)
        assert _threads(p, pieces(p, NETWORKS)) * p[pieces(p, NETWORKS)[0]].numel() <= 2 * NETWORKS
    finally:
        torch.set_num_threads(1)


def test_inference_mode_goes_with_the_work(threads: int) -> None:
    p = rows()
    with torch.inference_mode():
        q = in_pieces(lambda part, rows: rows * 1, p, 150 * K, pieces(p, 150 * K))
    assert q.is_inference() and torch.equal(q, p)


def test_pieces_are_shorter_for_threads(threads: int) -> None:
    def heights(n: int, k: int) -> list[int]:
        return [part.stop - part.start for part in pieces(torch.zeros(n, k), NETWORKS)]

    # One for each thread, of 128 rows or more; of many classes as many rows as before.
    assert heights(1024, 10)[0] == -(-1024 // threads) and len(heights(1024, 10)) == threads
    assert heights(200, 10) == [128, 72]
    assert heights(64, 1000) == ([32, 32] if threads == 2 else [21, 21, 21, 1])
    assert heights(32, 2000) == [16, 16]


def test_invalid_rows_are_named_by_their_place_in_the_batch(threads: int) -> None:
    p = rows()
    p[300], p[599, 2] = 2 * p[300], torch.nan
    with pytest.raises(ValueError, match="rows 300, 599"):
        mp.LPA.fit(p[:200], torch.rand(200, 4), objective="direction", key=1)(p)
    lenient = Rounding(1, on_invalid="label")
    lenient(p)
    assert lenient.failures == 2


SCRIPT = """
    import os
    import signal
    import torch
    from mipoison.defenses.workers import side_by_side

    torch.set_num_threads(2)
    parts = [slice(i, i + 1) for i in range(4)]
    side_by_side(lambda part: None, parts, 2)
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        done = []
        side_by_side(lambda part: done.append(part.start), parts, 2)
        os._exit(0 if done == [0, 1, 2, 3] else 1)
    _, status = os.waitpid(child, 0)
    assert status == 0, "hangs" if status == signal.SIGALRM else status
"""


def test_a_forked_child_works_alone() -> None:
    program = textwrap.dedent(SCRIPT)
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
