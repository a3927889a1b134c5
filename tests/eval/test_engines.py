"""Whatever ends the command, nothing of it stays behind, and what it says is one line."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

# Tells its process, and takes longer than any test, once it is asked about more rows than a trial has.
CODE = """
import os, pathlib, time
def sleep(p):
    if len(p) > 8:
        pathlib.Path(f"asleep-{os.getpid()}").touch()
        time.sleep(600)
    return p
"""


def alive(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait(until, seconds=90):
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
@pytest.mark.parametrize(
    ("number", "group", "code"),
    [
        pytest.param(signal.SIGINT, True, 130, id="Ctrl-C"),
        pytest.param(signal.SIGTERM, False, 143, id="SIGTERM", marks=pytest.mark.full),
        pytest.param(signal.SIGHUP, False, 129, id="SIGHUP", marks=pytest.mark.full),
        pytest.param(signal.SIGKILL, False, -9, id="SIGKILL", marks=pytest.mark.full),
    ],
)
def test_no_process_outlives_the_command(number, group, code, tmp_path):
    (tmp_path / "slow.py").write_text(CODE)
    given = ["evaluate", "--preset", "quick", "--defenses", "rounding-1", "--seeds", "100", "101"]
    given += ["--target-epochs", "1"]
    command = subprocess.Popen(
        [sys.executable, "-m", "mipoison", *given, "--outside", "slow:sleep", "--out", "out"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        # What runs in the background of a shell hands on that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        wait(lambda: len(list(tmp_path.glob("asleep-*"))) == 2 or command.poll() is not None)
        workers = [int(path.name.partition("-")[2]) for path in tmp_path.glob("asleep-*")]
        assert len(workers) == 2 and all(map(alive, workers))
        (os.killpg if group else os.kill)(command.pid, number)
        said = command.communicate(timeout=60)[1]
        wait(lambda: not any(map(alive, workers)), seconds=10)
    finally:
        if command.poll() is None:
            os.killpg(command.pid, signal.SIGKILL)
    assert command.returncode == code
    if code > 0:
        lines = [line for line in said.splitlines() if "cells finished" not in line]
        assert lines == [
            "mipoison: interrupted; no cell was finished; the same command goes on from there"
        ]
        assert not list(tmp_path.glob("mipoison-*"))
