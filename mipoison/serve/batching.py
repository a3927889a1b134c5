"""Micro-batching: rows of several requests are defended together in a worker thread.

A row's answer does not depend on its batch; that is a guarantee of the defenses. So batches only save time, and rows
of a batch that fails are defended again one request at a time, so that no request fails for another's rows.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final

import numpy as np

from mipoison.serve.config.settings import Batching
from mipoison.serve.defending import Answer, NotAnswered
from mipoison.serve.documents.vectors import Answered, Array
from mipoison.serve.failures import Refused

_LOG: Final = logging.getLogger("mipoison.serve")


@dataclass(eq=False)
class _Waiting:
    """Rows of one request."""

    rows: Array
    ids: Sequence[str] | None
    answer: asyncio.Future[Answered] = field(repr=False)


class Batcher:
    """Defends rows of concurrent requests together.

    Args:
        answer: defends float64 rows [N, K] with the ids of their requests; it is called in one thread.
        settings: sizes and times.
        observe: told the rows and the seconds of each batch, in the thread. What it raises is logged, and changes no
            answer.

    Use it as an asynchronous context manager; leaving it finishes what waits.
    """

    def __init__(
        self,
        answer: Answer,
        settings: Batching,
        observe: Callable[[int, float], None] = lambda rows, seconds: None,
    ) -> None:
        self.settings = settings
        self._answer = answer
        self._observe = observe
        self._waiting: list[_Waiting] = []
        self._arrived = asyncio.Event()
        self._full = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "mipoison-defense")
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        # Rows that wait or are being defended.
        self.queued = 0

    async def __aenter__(self) -> Batcher:
        self._task = asyncio.create_task(self._serve(), name="mipoison-batches")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing = True
        self._arrived.set()
        self._full.set()
        if self._task is not None:
            await self._task
        self._thread.shutdown(wait=False)

    @property
    def alive(self) -> bool:
        """Whether rows are being defended."""
        return self._task is not None and not self._task.done() and not self._closing

    async def submit(self, rows: Array, ids: Sequence[str] | None) -> Answered:
        """What goes out for one request's rows [N, K].

        Raises:
            Refused: if too many rows wait, the time is over, or the proxy is shutting down; or by the defense.
            Exception: what the defense raised for these rows.
        """
        if not self.alive:
            raise Refused("shutting_down", "the proxy is shutting down; send the request again")
        if self.queued + len(rows) > self.settings.max_queued_rows:
            raise Refused(
                "queue_full",
                f"expected room in a queue of {self.settings.max_queued_rows} rows, got a full one; send it later",
            )
        waiting = _Waiting(rows, ids, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self.queued += len(rows)
        self._arrived.set()
        self._note_full()
        try:
            return await asyncio.wait_for(waiting.answer, self.settings.defense_timeout_s)
        except asyncio.TimeoutError:
            raise Refused(
                "defense_timeout",
                f"expected the defense to answer within {self.settings.defense_timeout_s:g} s, got nothing",
            ) from None
        finally:
            self.queued -= len(rows)

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._arrived.wait()
            if self._waiting and self.settings.wait_ms > 0 and not self._closing:
                await self._wait_for_more()
            batch = self._take()
            if not batch and self._closing:
                return
            # What the thread raises is set on the futures; the task goes on.
            for waiting, result in await loop.run_in_executor(self._thread, self._defended, batch):
                self._answered_by(waiting, result)

    @staticmethod
    def _answered_by(waiting: _Waiting, result: Answered | Exception) -> None:
        if waiting.answer.done():
            return
        if isinstance(result, Answered):
            waiting.answer.set_result(result)
            return
        waiting.answer.set_exception(result)
        # (Read, so that asyncio does not log it, and a row with it, where the client goes before it is.)
        waiting.answer.exception()

    def _note_full(self) -> None:
        if sum(len(waiting.rows) for waiting in self._waiting) >= self.settings.max_rows:
            self._full.set()

    async def _wait_for_more(self) -> None:
        """Returns when a batch is full, or its time is over."""
        try:
            await asyncio.wait_for(self._full.wait(), self.settings.wait_ms / 1000)
        except asyncio.TimeoutError:
            return

    def _take(self) -> list[_Waiting]:
        """The oldest requests, as many as fit into a batch; one at least. Those whose client has gone are left out."""
        batch: list[_Waiting] = []
        rows = 0
        while self._waiting:
            first = self._waiting[0]
            if first.answer.done():
                self._waiting.pop(0)
                continue
            if batch and rows + len(first.rows) > self.settings.max_rows:
                break
            batch.append(self._waiting.pop(0))
            rows += len(first.rows)
        self._full.clear()
        self._note_full()
        if not self._waiting and not self._closing:
            self._arrived.clear()
        return batch

    def _defended(self, batch: list[_Waiting]) -> list[tuple[_Waiting, Answered | Exception]]:
        """Runs in the thread: each request with its answer, or with what was raised for it."""
        done: list[tuple[_Waiting, Answered | Exception]] = []
        # Rows of different lengths cannot be stacked.
        for _, group in groupby(sorted(batch, key=_length), key=_length):
            done += self._together(list(group))
        return done

    def _together(self, batch: list[_Waiting]) -> list[tuple[_Waiting, Answered | Exception]]:
        rows = np.concatenate([waiting.rows for waiting in batch])
        ids = None
        if batch[0].ids is not None:
            ids = [one for waiting in batch for one in waiting.ids or ()]
        began = time.perf_counter()
        try:
            answered = self._answer(rows, ids)
        except Refused as refused:
            # Of the state of the defense, not of these rows.
            return [(waiting, refused) for waiting in batch]
        except NotAnswered as error:
            # Of the defense, not of these rows, which are counted already.
            return [(waiting, error) for waiting in batch]
        except BaseException as error:
            if len(batch) == 1:
                return [(batch[0], _as_result(error))]
            return [done for waiting in batch for done in self._together([waiting])]
        self._tell(len(rows), time.perf_counter() - began)
        done: list[tuple[_Waiting, Answered | Exception]] = []
        start = 0
        for waiting in batch:
            stop = start + len(waiting.rows)
            done.append((waiting, answered.part(start, stop)))
            start = stop
        return done

    def _tell(self, rows: int, seconds: float) -> None:
        try:
            self._observe(rows, seconds)
        except Exception:
            _LOG.exception("what counts batches raised")


def _as_result(error: BaseException) -> Exception:
    """What a future can hold: a cancellation or an exit would end more than one request."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    made = RuntimeError(
        f"expected an answer or an error of the defense, got {type(error).__name__}"
    )
    made.__cause__ = error
    return made


def _length(waiting: _Waiting) -> int:
    return int(waiting.rows.shape[1])
