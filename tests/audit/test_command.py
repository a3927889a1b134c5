"""`mipoison audit` from file to page, and what it refuses."""

from __future__ import annotations

import json

import numpy as np
import pytest
from audited import METHODS, TINY, images

from mipoison import cli
from mipoison.audit import command


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with mine.npz, where the quick preset is the tiny one."""
    evidence = images()
    np.savez(tmp_path / "mine.npz", x=evidence.inputs.reshape(-1, 4, 4), p=evidence.outputs)
    monkeypatch.setitem(command.PRESETS, "quick", TINY)
    monkeypatch.setattr(command, "defenses", lambda at: METHODS)
    # (Drawing is tested with the page, and takes long.)
    for figure in ("_pictures", "_curve"):
        monkeypatch.setattr(f"mipoison.audit.report.page.{figure}", lambda *given: None)
    monkeypatch.chdir(tmp_path)
    return tmp_path


GIVEN = ["audit", "mine.npz", "--preset", "quick", "--seeds", "100", "--jobs", "1", "--out", "out"]


def refused(capsys, given):
    """The one line with which a command is refused; what else it said stands before."""
    with pytest.raises(SystemExit) as stopped:
        cli.main(given)
    printed = capsys.readouterr()
    assert stopped.value.code == 2 and printed.out == "" and "Traceback" not in printed.err
    return printed.err.splitlines()[-1]


def test_from_a_file_to_a_page(here, capsys, monkeypatch):
    whole, measured = command.run, []

    def once(work, **options):
        """Measures the first time alone."""
        if not measured:
            measured.append(whole(work, **options))
        return measured[0]

    monkeypatch.setattr(command, "run", once)
    cli.main(GIVEN)
    said = capsys.readouterr().err.splitlines()
    # What it will do and how long that takes comes before it is begun.
    before = [line for line in said if "min (preset quick)" in line]
    assert said.index(before[0]) < said.index("0 of 4 measurements finished")
    assert said[-1] == "mipoison: report: out/audit.html"
    names = {path.name for path in (here / "out").iterdir()}
    assert names == {"audit.html", "audit.json", "defense.safetensors", "serve.toml"}
    content = json.loads((here / "out/audit.json").read_text())
    assert content["source"] == "mine.npz" and content["rows"] == 400
    # A finished audit is refused, and replaced where that is asked for.
    assert "--overwrite" in refused(capsys, GIVEN)
    before = (here / "out/audit.json").stat().st_mtime_ns
    cli.main([*GIVEN, "--overwrite"])
    assert (here / "out/audit.json").stat().st_mtime_ns > before


def test_a_folder_of_something_else_is_never_touched(here, capsys):
    (here / "out").mkdir()
    (here / "out/notes.txt").write_text("mine")
    for more in ([], ["--overwrite"]):
        assert "notes.txt" in refused(capsys, [*GIVEN, *more])
    assert (here / "out/notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--seeds", "1", "1"], "--seeds: expected different ones"),
        (["--jobs", "0"], "--jobs: expected at least 1"),
        (["--vectors", "none.npz"], "none.npz"),
        (["--wish", "1"], "see mipoison audit --help"),
        (["--preset", "wish"], "quick"),
        (["--temperature", "-1", "--logits"], "temperature"),
    ],
)
def test_mistakes_are_told_in_one_line(here, capsys, more, said):
    assert said in refused(capsys, [*GIVEN, *more])
    assert not (here / "out").exists()


def test_ctrl_c_leaves_what_is_done_and_no_page(here, capsys, monkeypatch):
    def interrupted(*given, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "run", interrupted)
    with pytest.raises(SystemExit) as stopped:
        cli.main(GIVEN)
    assert stopped.value.code == 130
    assert "goes on from there" in capsys.readouterr().err
    assert not (here / "out/audit.html").exists()
