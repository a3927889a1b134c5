"""Processes of the proxy's tests and studies: a model server, and `mipoison serve` in front of it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import httpx

# (Of a loaded machine, on which four workers import torch.)
_STARTING_S: Final = 180.0
_ENDING_S: Final = 60.0


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


@contextmanager
def running(
    command: Sequence[str],
    ready: str,
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    log: Path | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """A process while it runs; it is ended on leaving.

    Args:
        command: the program and its arguments.
        ready: URL that answers 200 when it can be used.
        environment: variables beside those of this process.
        folder: to run in.
        log: file that standard output and error are added to; dropped by default.

    Raises:
        RuntimeError: if it ends before it is ready.
        TimeoutError: if it is not ready in time.
    """
    with open(log or os.devnull, "ab") as said:
        process = subprocess.Popen(
            command,
            env={**os.environ, **(environment or {})},
            cwd=folder,
            stdout=said,
            stderr=said,
            # Whoever ends it ends what it has started, too.
            start_new_session=True,
        )
    try:
        wait_for(ready, process)
        yield process
    finally:
        end(process)


@contextmanager
def serving(
    config: Path, port: int, *, key: str | None = None, log: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """`mipoison serve` with a TOML file that listens on a port.

    Args:
        config: the settings; a key is read from the variable A_KEY.
        port: of the settings.
        key: 32 hexadecimal digits or more.
        log: file for its log.
    """
    command = [sys.executable, "-m", "mipoison", "serve", "--config", str(config)]
    url = f"http://127.0.0.1:{port}/readyz"
    with running(command, url, environment={"A_KEY": key} if key else None, log=log) as process:
        yield process


def write_config(
    file: Path,
    *,
    upstream: int,
    port: int,
    defense: Path,
    workers: int = 1,
    protocol: str = "mlflow",
    defend: str = "POST /invocations",
    ready: str = "/ready",
    more: str = "",
) -> Path:
    """Writes settings of a proxy on the loopback, and returns their file.

    Args:
        file: to write.
        upstream: port of the model server.
        port: of the proxy.
        defense: a saved defense.
        workers: of the proxy.
        protocol: of [answers].
        defend: the route that is defended.
        ready: path of the model server's readiness.
        more: lines that follow those of [defense].
    """
    file.write_text(
        f"""[upstream]
url = "http://127.0.0.1:{upstream}"
ready_path = "{ready}"
timeout_s = 30
[answers]
protocol = "{protocol}"
[routes]
defend = ["{defend}"]
[listen]
port = {port}
workers = {workers}
[defense]
file = "{defense}"
{more}
"""
    )
    return file


def end(process: subprocess.Popen[Any]) -> None:
    """Ends a process as its operator would, and kills what is left of it and its children."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_ENDING_S)
    kill(process)


def kill(process: subprocess.Popen[Any]) -> None:
    """Kills a process and its children at once, as a crash would."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_for(url: str, process: subprocess.Popen[Any]) -> None:
    """Returns when the process answers 200 at a URL.

    Raises:
        RuntimeError: if it ends before that.
        TimeoutError: if it takes too long.
    """
    until = time.monotonic() + _STARTING_S
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError(f"expected a server, got a process that ended: {process.args!r}")
        try:
            if httpx.get(url, timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise TimeoutError(f"expected {url} to answer within {_STARTING_S:g} s, got nothing")
