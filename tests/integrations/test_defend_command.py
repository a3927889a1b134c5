"""`mipoison defend`: what it says, its exit codes, and that a killed run goes on."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from integrations.tables import read, table, vectors
from later import later

import mipoison as mp
from mipoison import cli
from mipoison.defenses import LaplaceNoise, Rounding
from mipoison.integrations.arrow import command, defend
from mipoison.integrations.arrow.shown import Shown

N, GROUP = 200, 30
TEXT = "8f3a41c09b7e25d6aa10ff4c03b2957e"
NOISE = LaplaceNoise(scale=0.05, key=mp.Key(bytes.fromhex(TEXT)))


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder with vectors, a defense, and its key in a variable."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MIPOISON_KEY", TEXT)
    pq.write_table(table(vectors(N)), "in.parquet", row_group_size=GROUP)
    NOISE.save("noise.safetensors")


def ask(*arguments: str) -> int:
    """The exit code."""
    try:
        cli.main(["defend", *arguments])
    except SystemExit as stopped:
        return int(stopped.code or 0)
    return 0


GIVEN = ("in.parquet", "out.parquet", "--defense", "noise.safetensors")


def answers(**options: Any) -> Any:
    """What is expected."""
    return defend(pq.read_table("in.parquet"), NOISE, **options)


def test_it_defends(capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(*GIVEN) == 0
    assert capsys.readouterr() == ("", "mipoison: out.parquet: 200 rows\n")
    assert pq.read_table("out.parquet").equals(answers())


def test_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MIPOISON_KEY")
    Path("key").write_text(TEXT)
    given = "--column p --ids user --drop at tags --decimals 3 --rows-per-batch 7 --key-file key"
    assert ask(*GIVEN, *given.split()) == 0
    expected = answers(ids="user", drop=("at", "tags"), decimals=3)
    assert pq.read_table("out.parquet").equals(expected)
    monkeypatch.setenv("MINE", TEXT)
    assert ask(GIVEN[0], "other.parquet", *GIVEN[2:], "--key-env", "MINE") == 0
    assert pq.read_table("other.parquet").equals(answers())


def test_rows_that_are_no_probabilities(capsys: pytest.CaptureFixture[str]) -> None:
    p = vectors(N)
    p[[3, 77]] *= 2
    pq.write_table(table(p), "in.parquet", row_group_size=GROUP)
    assert ask(*GIVEN) == 2
    said = capsys.readouterr().err
    assert said.startswith("mipoison: in.parquet: expected outputs to be probability vectors")
    assert said.count("\n") == 1 and "got row 3 otherwise" in said
    assert not Path("out.parquet").exists()
    assert ask(*GIVEN, "--on-invalid", "label") == 0
    said = capsys.readouterr().err
    assert said == "mipoison: out.parquet: 200 rows, 2 of them answered by their labels alone\n"
    assert read(pq.read_table("out.parquet")["p"])[77].max() == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nowhere", *GIVEN[1:]), "expected a Parquet file or a folder of them, got nothing at no"),
        (("in.parquet", *GIVEN), "unrecognized arguments"),
        ((*GIVEN, "--column", "q"), "in.parquet: expected one column 'q', got 0"),
        ((*GIVEN, "--decimals", "12"), "in.parquet: expected decimals in [1, 9], got 12"),
        ((*GIVEN, "--key-env", "MINE"), "expected a key in the environment variable MINE"),
        ((*GIVEN, "--key-file", "nowhere"), "nowhere"),
        ((*GIVEN[:3], "in.parquet"), "expected a file saved by a mipoison defense"),
        ((*GIVEN[:3], "nowhere"), "nowhere: No such file or directory"),
        (("in.parquet", "in.parquet", *GIVEN[2:]), "expected a path where nothing is"),
        (("in.parquet", "no folder/out", *GIVEN[2:]), "expected a path in a folder that exists"),
        (GIVEN[:2], "--defense"),
    ],
)
def test_mistakes(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(*arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and said in printed.err
    assert TEXT not in printed.err
    assert not Path("out.parquet").exists()


def test_ctrl_c(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "defend_parquet", interrupted)
    assert ask(*GIVEN) == 130
    said = "mipoison: interrupted; the same command goes on from there\n"
    assert capsys.readouterr().err == said


def test_help_names_the_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert ask("--help") == 0
    told = capsys.readouterr().out
    for option in ("--defense", "--column", "--key-file", "--decimals", "--ids", "--on-invalid"):
        assert option in told
    cli.main(["--help"])
    assert "defend" in capsys.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGKILL, *later(signal.SIGINT)])
def test_a_killed_run_goes_on(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    p = vectors(4000)
    pq.write_table(table(p), "in.parquet", row_group_size=20)
    call = [sys.executable, "-m", "mipoison", "defend", *GIVEN]
    process = subprocess.Popen(call, stderr=subprocess.PIPE, text=True)
    state = tmp_path / "out.parquet.partial/state.json"
    ends = time.monotonic() + 100
    finished = 0
    while finished < 5 and process.poll() is None and time.monotonic() < ends:
        time.sleep(0.01)
        if state.exists():
            finished = sum(map(len, json.loads(state.read_text())["labels"]))
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == (130 if number == signal.SIGINT else -number), said
    left = sum(map(len, json.loads(state.read_text())["labels"]))
    assert 5 <= left < 200 and not Path("out.parquet").exists()
    # (Only what was killed has to reach the disk.)
    monkeypatch.setattr(os, "fsync", lambda _: None)
    begun = os.stat(tmp_path / "out.parquet.partial/0-0.arrow").st_mtime_ns
    assert ask("in.parquet", "whole.parquet", *GIVEN[2:]) == 0
    assert os.stat(tmp_path / "out.parquet.partial/0-0.arrow").st_mtime_ns == begun
    assert ask(*GIVEN) == 0
    assert Path("out.parquet").read_bytes() == Path("whole.parquet").read_bytes()
    assert pq.read_table("out.parquet").equals(answers())


class Terminal(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


def test_progress_changes_one_line_of_a_terminal() -> None:
    stream, seconds = Terminal(), iter((0.0, 1.0, 1.1, 3.0, 4.0))
    shown = Shown(stream, clock=lambda: next(seconds))
    for share in (0.2, 0.3, 0.6, 1.0):
        shown(share)
    shown.end()
    assert stream.getvalue() == (
        "\r20% after 0:00:01\x1b[K\r60% after 0:00:03, about 0:00:02 left\x1b[K\r100% after 0:00:04\x1b[K\n"
    )


def test_keyless_defenses_need_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MIPOISON_KEY")
    Rounding(2).save("rounding")
    assert ask("in.parquet", "out.parquet", "--defense", "rounding") == 0
    found = pq.read_table("out.parquet")
    assert found.equals(defend(pq.read_table("in.parquet"), Rounding(2)))
