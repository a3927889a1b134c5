"""Measures `mipoison serve` under load and faults, and writes its numbers, `studies/numbers/serve_*.csv`.

    python studies/serve_load.py [--parts overhead faults] [--vectors 100000]

A process plays the model server, another one the clients, and the proxy has one, two or four workers, all on the
loopback of one machine. Part of `make study`. `python studies/results_page.py` writes the tables of
docs/guides/operate.md.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from itertools import cycle, islice, product
from pathlib import Path
from typing import Final, TypeAlias

import httpx
import numpy as np
import torch
from csv_rows import Row, write_rows
from kept import NUMBERS
from serve_client import FAILURES, Expected, Outcome, Task, ask_all, counts
from serve_processes import free_port, kill, running, serving, write_config
from serve_upstream import BROKEN, CLASSES, UNLIKE, command, texts_of

import mipoison as mp
from mipoison.eval.run.environment import describe_environment

OVERHEAD: Final = NUMBERS / "serve_overhead.csv"
FAULTS: Final = NUMBERS / "serve_faults.csv"
SECRET: Final = "00112233445566778899aabbccddeeff"
DEFENSE: Final = "LPA equilibrium, budget 0.1"
FITTED, LIKE, FAR = range(1, 501), range(1001, 5001), range(UNLIKE + 1, UNLIKE + 1001)
# Of the overhead: clients, with how many requests of each round.
CLIENTS: Final = {1: 200, 32: 1000, 128: 1000}
ROUNDS: Final = 3
# Requests that SIGTERM finds under way, and how long the model server takes for them.
SLOW, SLOW_S = 64, 4.0
# Rows of a request of the long run.
EACH: Final = 4

Process: TypeAlias = "AbstractContextManager[subprocess.Popen[bytes]]"


class Bench:
    """A fitted defense, and the ports of a model server and of the proxy in front of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "lpa.safetensors"
        key = mp.Key(bytes.fromhex(SECRET))
        if not self.file.exists():
            self._fit(key)
        self.expected = Expected(mp.load(self.file, key=key), [*LIKE, *FAR])
        self.like = [row for row in self.expected.moved if row < UNLIKE]
        self.upstream, self.port = free_port(), free_port()

    def _fit(self, key: mp.Key) -> None:
        own = np.array([[float(text) for text in texts_of(row)] for row in FITTED])
        generator = np.random.default_rng(0)
        inputs = np.log(own) @ generator.normal(size=(CLASSES, 16))
        mp.LPA.fit(own, inputs, budget=0.1, epsilon=0.4, key=key).save(self.file)

    def model(self) -> Process:
        """The model server, while it runs."""
        return running(command(self.upstream), f"http://127.0.0.1:{self.upstream}/ready")

    def proxy(self, workers: int, *more: str) -> Process:
        """The proxy, while it runs."""
        config = write_config(
            self.folder / "serve.toml",
            upstream=self.upstream,
            port=self.port,
            defense=self.file,
            workers=workers,
            more="\n".join(('key_env = "A_KEY"', *more)),
        )
        return serving(config, self.port, key=SECRET, log=self.folder / "log")

    def ask(self, tasks: Iterator[Task], clients: int) -> Outcome:
        """Asks the proxy, and judges its answers."""
        return asyncio.run(ask_all(self.port, tasks, clients, self.expected))

    def metric(self, name: str) -> float:
        """A number of /metrics."""
        return counts(httpx.get(f"http://127.0.0.1:{self.port}/metrics").text)[name]


def plain(
    rows: list[int] | range, count: int, *, each: int = 1, seconds: float = 0.0
) -> Iterator[Task]:
    """Requests for so many rows each, in turn."""
    turns = cycle(rows)
    return (Task(tuple(islice(turns, each)), seconds=seconds) for _ in range(count))


def overhead(bench: Bench) -> list[Row]:
    """Times of the model server bare and behind the proxy, in turn, so that both see the same machine."""
    found = []
    for workers in (1, 2):
        with bench.model(), bench.proxy(workers):
            for clients, round_ in product(CLIENTS, range(ROUNDS + 1)):
                for way, port in (("bare", bench.upstream), ("proxy", bench.port)):
                    times = timed(port, bench.like, clients)
                    # (The first round warms up.)
                    if round_ > 0:
                        found.append(
                            conditions(workers)
                            | {"clients": clients, "round": round_, "way": way, **times}
                        )
    return found


def timed(port: int, rows: list[int], clients: int) -> Row:
    """Percentiles over the requests of some clients, each for one row."""
    began = time.perf_counter()
    asked = asyncio.run(ask_all(port, plain(rows, CLIENTS[clients]), clients))
    took = time.perf_counter() - began
    assert asked.statuses == {200}, asked.verdicts
    p50, p99 = np.percentile(np.array(asked.seconds) * 1000, [50, 99])
    return {
        "requests": CLIENTS[clients],
        "p50_ms": float(p50),
        "p99_ms": float(p99),
        "per_s": CLIENTS[clients] / took,
    }


def faults(bench: Bench, requests: int) -> list[Row]:
    """What became of the requests of each run."""
    found = [
        outcome(
            f"a tenth of the answers broken, {EACH} rows a request", 4, broken(bench, requests)
        ),
        outcome("model server killed three times", 4, killed(bench, requests // 10)),
        outcome(f"SIGTERM with {SLOW} requests under way", 4, drained(bench)),
    ]
    for on_drift in ("continue", "label", "refuse"):
        found += [
            outcome(f"drift, {on_drift}: {what}", 1, asked)
            for what, asked in drift(bench, on_drift)
        ]
    return found


def broken(bench: Bench, requests: int) -> Outcome:
    """Four workers, 32 clients; each tenth answer of the model server is one of its broken ones."""
    forms = cycle(BROKEN)
    asked = plain(bench.like, requests, each=EACH)
    tasks = (
        Task(task.rows, next(forms) if number % 10 == 9 else None)
        for number, task in enumerate(asked)
    )
    with bench.model(), bench.proxy(4):
        return bench.ask(tasks, 32)


def killed(bench: Bench, requests: int) -> Outcome:
    """Three times the model server dies while 32 clients ask on; once it is back, 500 requests have to be answered."""
    total, part = Outcome(), requests // 3
    with ExitStack() as stack:
        model = stack.enter_context(bench.model())
        stack.enter_context(bench.proxy(4))
        for _ in range(3):
            threading.Timer(0.5, kill, [model]).start()
            total.verdicts += bench.ask(plain(bench.like, part), 32).verdicts
            model = stack.enter_context(bench.model())
            after = bench.ask(plain(bench.like, 500), 32)
            assert after.verdicts == {(200, "defended"): 500}, after.verdicts
            total.verdicts += after.verdicts
    return total


def drained(bench: Bench) -> Outcome:
    """SIGTERM while the model server has not answered yet."""
    found: list[Outcome] = []
    with bench.model(), bench.proxy(4) as proxy:
        tasks = plain(bench.like, SLOW, seconds=SLOW_S)
        asking = threading.Thread(target=lambda: found.append(bench.ask(tasks, SLOW)))
        asking.start()
        while bench.metric("mipoison_requests_in_flight") < SLOW:
            time.sleep(0.02)
        proxy.send_signal(signal.SIGTERM)
        asking.join()
        assert proxy.wait(60) == 0
    return found[0]


def drift(bench: Bench, on_drift: str) -> list[tuple[str, Outcome]]:
    """Rows like those of the fit, then rows unlike them, then like them again."""
    found = []
    settings = (f'on_drift = "{on_drift}"', "drift_window = 500")
    with bench.model(), bench.proxy(1, *settings):
        for what, rows in (("like", bench.like), ("unlike", FAR), ("like again", bench.like)):
            # (A window's length of rows changes what is answered; what comes after is counted.)
            bench.ask(plain(rows, 1000), 8)
            found.append((what, bench.ask(plain(rows, 500), 8)))
            drifting = bench.metric("mipoison_drifting")
            assert drifting == (what == "unlike"), (what, drifting)
    return found


def outcome(run: str, workers: int, asked: Outcome) -> Row:
    """A line of the table."""
    assert asked.count(*FAILURES) == 0, asked.verdicts
    statuses = {
        str(status): sum(number for (one, _), number in asked.verdicts.items() if one == status)
        for status in sorted(asked.statuses - {200})
    }
    return conditions(workers) | {
        "run": run,
        "requests": sum(asked.verdicts.values()),
        "defended": asked.count("defended"),
        "label": asked.count("label"),
        "refused": asked.count("refused"),
        "undefended": asked.count("undefended"),
        "wrong": asked.count("wrong"),
        "broken": asked.count("broken"),
        "statuses": " ".join(f"{status}:{number}" for status, number in statuses.items()),
    }


def conditions(workers: int) -> Row:
    """Under which a line was measured."""
    return {
        "defense": DEFENSE,
        "classes": CLASSES,
        "workers": workers,
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
    }


def main() -> None:
    """Measures what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", default=["overhead", "faults"])
    parser.add_argument("--vectors", type=int, default=100_000, help="of the long run")
    parser.add_argument("--folder", type=Path, help="of the fitted defense, which is fitted once")
    parser.add_argument("--jobs", type=int, default=1, help="ignored: times are taken one by one")
    given = parser.parse_args()
    torch.set_num_threads(1)

    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(given.folder or Path(folder))
        if "overhead" in given.parts:
            write_rows(OVERHEAD, overhead(bench), describe_environment(jobs=1))
        if "faults" in given.parts:
            write_rows(FAULTS, faults(bench, given.vectors // EACH), describe_environment(jobs=1))


if __name__ == "__main__":
    main()
