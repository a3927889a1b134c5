"""Clients of the proxy that ask side by side, and judge every answer: defended, refused, or a failure."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from serve_upstream import CLASSES, texts_of

from mipoison.defenses.base import Defense
from mipoison.defenses.wire import on_the_wire

# More decimals than go out, such as the digits of a row's number.
_TAGGED: Final = re.compile(rb"\d\.\d{5,}")
_LENGTH: Final = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
DECIMALS: Final = 4
# Verdicts that no answer may have.
FAILURES: Final = ("undefended", "wrong", "broken")


@dataclass(frozen=True)
class Task:
    """A request: the numbers of its rows, what the model server shall make of them, and after how many seconds."""

    rows: tuple[int, ...]
    form: str | None = None
    seconds: float = 0.0


@dataclass
class Outcome:
    """What became of some requests: how many have each (status, verdict), and the seconds of each."""

    verdicts: Counter[tuple[int, str]] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)

    def count(self, *verdicts: str) -> int:
        """Answers with one of these verdicts."""
        return sum(number for (_, one), number in self.verdicts.items() if one in verdicts)

    @property
    def statuses(self) -> set[int]:
        """Every status; 0 for a connection that broke."""
        return {status for status, _ in self.verdicts}


class Expected:
    """What the proxy has to answer: the defense's answers on the wire, computed here.

    Args:
        defense: with its key.
        rows: numbers of rows.
    """

    def __init__(self, defense: Defense, rows: Iterable[int]) -> None:
        numbers = sorted(set(rows))
        undefended = np.array([[float(text) for text in texts_of(row)] for row in numbers])
        answers = np.asarray(on_the_wire(defense, undefended, decimals=DECIMALS))
        bare = np.round(undefended, DECIMALS)
        self.answers = dict(zip(numbers, answers, strict=True))
        self._bare = dict(zip(numbers, bare, strict=True))
        self._labels = dict(zip(numbers, undefended.argmax(1), strict=True))
        self.moved = [
            row
            for row, answer, own in zip(numbers, answers, bare, strict=True)
            if not np.allclose(answer, own, atol=1e-9)
        ]

    def verdict(self, task: Task, status: int, raw: bytes, body: bytes) -> str:
        """Of one answer: "defended", "label" (one-hot), "refused", "undefended" or "wrong"."""
        if _TAGGED.search(raw) or any(
            text.encode() in raw for row in task.rows for text in texts_of(row)
        ):
            return "undefended"
        if status != 200:
            own = (text[: 2 + DECIMALS].encode() for row in task.rows for text in texts_of(row))
            return "undefended" if any(text in raw for text in own) else "refused"
        try:
            served = np.array(json.loads(body)["predictions"], dtype=np.float64)
        except (ValueError, KeyError, TypeError):
            return "wrong"
        if served.shape != (len(task.rows), CLASSES):
            return "wrong"
        if all(np.array_equal(a, self.answers[r]) for a, r in zip(served, task.rows, strict=True)):
            return "defended"
        if ((served == 1).sum(axis=1) == 1).all() and (served.sum(axis=1) == 1).all():
            labels = [self._labels[row] for row in task.rows]
            return "label" if served.argmax(1).tolist() == labels else "wrong"
        near = (np.abs(a - self._bare[r]).max() for a, r in zip(served, task.rows, strict=True))
        return "undefended" if min(near) < 10.0**-DECIMALS else "wrong"


class Connection:
    """One connection that is kept open, as a client's pool would."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, task: Task) -> tuple[int, bytes, bytes]:
        """Status, all bytes of the answer, and its body.

        Raises:
            OSError: if the connection breaks.
        """
        asked: dict[str, Any] = {"rows": task.rows}
        if task.form is not None:
            asked["as"] = task.form
        body = json.dumps(asked).encode()
        path = f"/invocations?s={task.seconds}" if task.seconds else "/invocations"
        head = (
            f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self._streams
        try:
            writer.write(head.encode() + body)
            told = await reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(told)
            if length is None:
                raise ConnectionError("expected an answer with a length, got none")
            content = await reader.readexactly(int(length[1]))
        except (OSError, asyncio.IncompleteReadError):
            self.close()
            raise ConnectionError("the connection broke") from None
        if b"connection: close" in told.lower():
            self.close()
        return int(told.split(b" ", 2)[1]), told + content, content

    def close(self) -> None:
        """Closes it; the next request opens another one."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def ask_all(
    port: int, tasks: Iterable[Task], clients: int, expected: Expected | None = None
) -> Outcome:
    """Asks everything, a number of clients side by side, each of which waits for its answer.

    Args:
        port: of the proxy, or of the model server.
        tasks: the requests.
        clients: connections.
        expected: judges the answers; None to measure times alone.
    """
    outcome, left = Outcome(), iter(tasks)
    await asyncio.gather(*(_client(port, left, outcome, expected) for _ in range(clients)))
    return outcome


async def _client(
    port: int, tasks: Iterator[Task], outcome: Outcome, expected: Expected | None
) -> None:
    connection = Connection(port)
    for task in tasks:
        began = time.perf_counter()
        try:
            status, raw, body = await connection.ask(task)
        except OSError:
            outcome.verdicts[0, "broken"] += 1
            continue
        outcome.seconds.append(time.perf_counter() - began)
        verdict = "timed" if expected is None else expected.verdict(task, status, raw, body)
        outcome.verdicts[status, verdict] += 1
    connection.close()


def counts(metrics: str) -> Mapping[str, float]:
    """The numbers of a page of /metrics, by name and labels."""
    lines = (line for line in metrics.splitlines() if line and not line.startswith("#"))
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines}
