"""The proxy's process under load: workers that agree, a broken and a dying model server, and a drain.

`python studies/serve_load.py` asks the same of 100,000 requests, and measures times.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from itertools import chain, cycle, islice
from pathlib import Path

import httpx
import pytest
from later import fewer
from serve_client import FAILURES, Expected, Outcome, Task, ask_all, counts
from serve_processes import free_port, kill, running, serving, write_config
from serve_upstream import BROKEN, STILL_ANSWERED, command

import mipoison as mp
from mipoison.defenses import GaussianNoise

SECRET = "00112233445566778899aabbccddeeff"
ROWS = range(1, 101)
WORKERS = fewer(2, 4)
SLOW = 24
IN_FLIGHT = "mipoison_requests_in_flight"


class Served:
    """A model server, the workers in front of it, and what they have to answer."""

    def __init__(self, folder: Path) -> None:
        self.upstream, self.port = free_port(), free_port()
        defense = GaussianNoise(key=mp.Key(bytes.fromhex(SECRET)))
        defense.save(folder / "defense.safetensors")
        self.expected = Expected(defense, ROWS)
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "log"
        self.config = write_config(
            folder / "serve.toml",
            upstream=self.upstream,
            port=self.port,
            defense=folder / "defense.safetensors",
            workers=WORKERS,
            more='key_env = "A_KEY"',
        )

    def ask(self, tasks: Iterator[Task], clients: int) -> Outcome:
        asked = asyncio.run(ask_all(self.port, tasks, clients, self.expected))
        assert asked.count(*FAILURES) == 0, asked.verdicts
        return asked

    def model(self) -> AbstractContextManager[subprocess.Popen[bytes]]:
        return running(command(self.upstream), f"http://127.0.0.1:{self.upstream}/ready")


def plain(count: int, seconds: float = 0.0) -> Iterator[Task]:
    return (Task((row,), seconds=seconds) for row in islice(cycle(ROWS), count))


def test_workers_agree_under_faults_and_drain(tmp_path: Path) -> None:
    served = Served(tmp_path)
    assert len(served.expected.moved) == len(ROWS)
    proxied = serving(served.config, served.port, key=SECRET, log=served.log)
    with served.model() as model, proxied as proxy:
        broken_answers_are_kept_back(served)
        # (Any of the workers may have had any of them.)
        assert served.log.read_text().count('"event": "started"') == WORKERS
        a_dead_model_server_is_told(served, model)
        with served.model():
            assert served.ask(plain(50), 8).verdicts == {(200, "defended"): 50}
            everything_accepted_is_answered(served, proxy)


def broken_answers_are_kept_back(served: Served) -> None:
    forms = chain.from_iterable((None, form) for form in BROKEN)
    tasks = [
        Task((row, row % 100 + 1), form) for row, form in zip(ROWS, cycle(forms), strict=False)
    ]
    asked = served.ask(iter(tasks * 3), 16)
    good = sum(task.form is None or task.form in STILL_ANSWERED for task in tasks)
    assert asked.count("defended") == 3 * good and asked.count("refused") == 3 * (len(ROWS) - good)
    assert asked.statuses == {200, 422, 500, 502}


def a_dead_model_server_is_told(served: Served, model: subprocess.Popen[bytes]) -> None:
    # (Ends its requests that are under way, too.)
    threading.Timer(0.3, kill, [model]).start()
    asked = served.ask(plain(200, seconds=0.02), 8)
    assert asked.statuses == {200, 502}
    assert httpx.get(f"{served.url}/readyz").status_code == 503


def everything_accepted_is_answered(served: Served, proxy: subprocess.Popen[bytes]) -> None:
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(served.ask, plain(SLOW, seconds=3), SLOW)
        while counts(httpx.get(f"{served.url}/metrics").text)[IN_FLIGHT] < SLOW:
            assert not slow.done()
            time.sleep(0.02)
        proxy.send_signal(signal.SIGTERM)
        assert slow.result().verdicts == {(200, "defended"): SLOW}
    assert proxy.wait(60) == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(served.url)
