"""What the programs of this folder share: a classifier, its saved defense, a server's process, and a client."""

import json
import os
import secrets
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

import mipoison as mp

START = 180.0  # seconds that a server may take to answer


def classifier() -> torch.nn.Module:
    """Of 8 numbers into 5 classes; the same in every process. Yours takes its place."""
    weight = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    linear = torch.nn.Linear(8, 5, bias=False)
    linear.weight.data.copy_(weight)
    return torch.nn.Sequential(linear, torch.nn.Softmax(dim=-1))


def defended() -> mp.Defended:
    """The classifier as each worker serves it: the file and the key are read there, on the first request."""
    return mp.Defended(classifier(), mp.Deferred(os.environ["DEFENSE"]), decimals=4)


@contextmanager
def deployed() -> Iterator[None]:
    """Fits a defense and saves it, and sets the variables that a deployment gives its servers."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MIPOISON_KEY"] = secrets.token_hex(32)  # from your store of secrets
        os.environ["DEFENSE"] = f"{folder}/lpa.safetensors"
        inputs = torch.randn(300, 8)  # the defender's own data, never private
        key = mp.Key.from_env("MIPOISON_KEY")
        defense = mp.LPA.fit(classifier()(inputs), inputs, objective="decoy", budget=0.1, key=key)
        defense.save(os.environ["DEFENSE"])
        yield


def free_port() -> int:
    """A port of the loopback that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def running(*command: str) -> Iterator[None]:
    """A server in a process of its own, which is interrupted at the end, as by Ctrl-C."""
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            command,
            cwd=Path(__file__).parent,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield
        except BaseException:
            log.seek(0)
            print(log.read())
            raise
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def ask(url: str, inputs: torch.Tensor) -> Any:
    """What the server answers, as soon as it does."""
    body = json.dumps({"inputs": inputs.tolist()}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    end = time.monotonic() + START
    while True:
        try:
            with urllib.request.urlopen(request, timeout=START) as answer:
                return json.load(answer)
        except (urllib.error.URLError, ConnectionError):
            if time.monotonic() > end:
                raise
            time.sleep(0.5)


def check(url: str, *, name: str | None = None) -> str:
    """Asks for twenty answers and checks that they are defended; a line that says so.

    Args:
        url: of the server.
        name: what it calls the rows of its answer; None where the answer is the rows.
    """
    inputs = torch.randn(20, 8)
    served, again = (ask(url, part) for part in (inputs, inputs[:3]))
    rows, few = (answer if name is None else answer[name] for answer in (served, again))
    undefended = classifier()(inputs)
    moved = (torch.tensor(rows) - undefended).abs().sum(1)
    assert rows == defended()(inputs).tolist()  # the same file and key: the same answers
    assert few == rows[:3]  # in every batch
    assert all(sum(round(10_000 * entry) for entry in row) == 10_000 for row in rows)
    assert moved.max() > 0.01 and (torch.tensor(rows).argmax(1) == undefended.argmax(1)).all()
    return f"mean l1: {moved.mean():.3f}, labels changed: 0"
