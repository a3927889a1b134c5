"""`mipoison serve` as a process: workers that agree, metrics of all of them, and a drain on SIGTERM."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
import uvicorn
from later import later
from serve_processes import free_port, wait_for
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import mipoison as mp
from mipoison.defenses import GaussianNoise, Rounding
from mipoison.serve import command

SECRET = "00112233445566778899aabbccddeeff"
P = [[0.6123, 0.2877, 0.1], [0.3, 0.3, 0.4]]
MOVED = {"predictions": P}


@pytest.fixture
def upstream() -> Iterator[str]:
    """A model server in a thread; a query ?s=1 makes it answer after as many seconds."""

    async def predict(request: Request) -> JSONResponse:
        import asyncio

        await asyncio.sleep(float(request.query_params.get("s", 0)))
        return JSONResponse(MOVED)

    app = Starlette(routes=[Route("/invocations", predict, methods=["POST"])])
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A keyed defense."""
    file = tmp_path / "defense.safetensors"
    GaussianNoise(key=mp.Key(bytes.fromhex(SECRET))).save(file)
    return file


@pytest.mark.full
@pytest.mark.parametrize("workers", [1, *later(2)])
def test_workers_agree_and_drain(workers: int, upstream: str, saved: Path, tmp_path: Path) -> None:
    port = free_port()
    arguments = [
        *("--upstream", upstream, "--port", str(port), "--workers", str(workers)),
        *("--protocol", "mlflow", "--defend", "POST /invocations"),
        *("--defense", str(saved), "--key-env", "A_KEY"),
    ]
    log = tmp_path / "log"
    with log.open("w") as written:
        process = subprocess.Popen(
            [sys.executable, "-m", "mipoison", "serve", *arguments],
            stderr=written,
            text=True,
            env={**os.environ, "A_KEY": SECRET},
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{url}/readyz", process)
        with ThreadPoolExecutor(4) as pool:
            # (A connection each, which the workers share.)
            got = list(pool.map(lambda _: httpx.post(f"{url}/invocations?s=0.05"), range(20)))
            assert {one.status_code for one in got} == {200}
            assert len({one.content for one in got}) == 1
            expected = mp.load(saved, key=mp.Key(bytes.fromhex(SECRET)))(torch.tensor(P).double())
            served = torch.tensor(got[0].json()["predictions"], dtype=torch.float64)
            assert float((served - expected).abs().max()) < 1e-3
            for _ in range(4):
                page = httpx.get(f"{url}/metrics").text
                assert "mipoison_rows_total 40.0" in page
            late = pool.submit(httpx.post, f"{url}/invocations?s=1.5")
            time.sleep(0.5)
            process.send_signal(signal.SIGTERM)
            assert late.result().content == got[0].content
        assert process.wait(20) == 0
        with pytest.raises(httpx.ConnectError):
            httpx.get(url)
    finally:
        process.kill()
        process.wait()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    told = [line for line in lines if line["event"] == "request"]
    assert len(told) == 21 and all(line["rows"] == 2 for line in told)
    assert sum(line["event"] == "started" for line in lines) == workers
    text = log.read_text()
    assert (
        SECRET not in text
        and "0.6123" not in text
        and not any(str(x) in text for x in got[0].json())
    )


def check(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    try:
        command.main(["--check", *arguments])
    except SystemExit as stopped:
        return int(stopped.code or 0), capsys.readouterr().err
    return 0, capsys.readouterr().out


def needed(file: Path) -> list[str]:
    return [
        *("--upstream", "http://h:1", "--protocol", "mlflow", "--defend", "POST /a"),
        *("--defense", str(file)),
    ]


def test_check_tells_the_fingerprint_and_not_the_key(
    saved: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_KEY", SECRET)
    code, said = check(capsys, *needed(saved), "--key-env", "A_KEY")
    assert code == 0 and mp.Key(bytes.fromhex(SECRET)).fingerprint() in said and SECRET not in said


def test_what_cannot_be_served_is_told_in_one_line(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_KEY", SECRET)
    monkeypatch.delenv("NO_KEY", raising=False)
    keyless = tmp_path / "rounding.safetensors"
    Rounding(2).save(keyless)
    (tmp_path / "short").write_text("0123")
    key = ("--key-env", "A_KEY")
    for arguments, expected in (
        (["--config", str(tmp_path / "none.toml")], "none.toml: No such file"),
        (needed(tmp_path / "none"), "No such file"),
        (needed(saved), "got none; say with key_env or key_file where it is"),
        ([*needed(saved), "--key-env", "NO_KEY"], "NO_KEY"),
        ([*needed(saved), "--key-file", str(tmp_path / "short")], "short"),
        ([*needed(saved), "--key-file", str(tmp_path / "none")], "expected the path of a file"),
        ([*needed(keyless), *key], "expected no key for Rounding"),
        ([*needed(keyless), "--identity-header", "X-A"], "expected a defense with a key"),
        ([*needed(keyless), "--on-drift", "refuse"], "does not tell what fresh rows do"),
        ([*needed(tmp_path / "short")], "short"),
    ):
        code, said = check(capsys, *arguments)
        assert code == 2 and said.startswith("mipoison: ") and said.count("\n") == 1
        assert (
            expected in said
            and SECRET not in said
            and "0123" not in said.replace(str(tmp_path), "")
        )


def test_a_worker_with_another_key_or_file_ends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Restarted workers read both anew."""
    file, key = tmp_path / "lfp.safetensors", tmp_path / "key"
    other = SECRET[::-1]

    def keep(secret: str, rate: float) -> bytes:
        key.write_text(secret)
        mp.LFP(rate=rate, key=bytes.fromhex(secret)).save(file)
        return file.read_bytes()

    first = keep(SECRET, 1.0)
    started = [*needed(file), "--key-file", str(key), "--workers", "2"]
    monkeypatch.setattr(uvicorn, "run", lambda *_, **__: None)
    for name in (command._SETTINGS, command._IDENTITY, command.FOLDER):
        monkeypatch.setenv(name, "")
    # (Other tests read the loggers, which this sets up.)
    monkeypatch.setattr(command, "configure", lambda: None)
    caplog.set_level("ERROR", "mipoison.serve")
    command.main(started)
    command.worker()
    for secret, rate, told in (
        (SECRET, 0.5, "got another file,"),
        (other, 1.0, "got another key"),
    ):
        keep(secret, rate)
        caplog.clear()
        with pytest.raises(SystemExit) as stopped:
            command.worker()
        assert stopped.value.code == 3
        (said,) = [record.mipoison_fields["said"] for record in caplog.records]  # type: ignore[attr-defined]
        assert told in said and "restart the proxy" in said and secret not in said
    file.write_bytes(first)
    key.write_text(SECRET)
    command.worker()


def test_a_folder_of_metrics_that_is_not_there_is_told(
    saved: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_KEY", SECRET)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(saved.parent / "none"))
    code, said = check(capsys, *needed(saved), "--key-env", "A_KEY")
    assert code == 2 and "PROMETHEUS_MULTIPROC_DIR: expected a folder that can be written" in said
