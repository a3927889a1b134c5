"""The command line says what is allowed."""

import json
import os
import subprocess
import sys

import pytest

from mipoison.eval import cli


def test_wrong_preset_says_what_is_allowed(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["evaluate", "--preset", "wish"])
    assert stopped.value.code == 2
    printed = "".join(capsys.readouterr())
    assert "demo" in printed and "quick" in printed


def test_wrong_defense_says_what_is_allowed(capsys, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["evaluate", "--out", str(tmp_path / "out"), "--defenses", "wish"])
    assert stopped.value.code == 2
    assert "lpa-decoy-0.2" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_existing_folder_is_refused(capsys, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(SystemExit) as stopped:
        cli.main(["evaluate", "--out", str(tmp_path)])
    assert stopped.value.code == 2
    assert "--overwrite" in capsys.readouterr().err.replace("\n", " ")


def test_report_without_results_is_refused(capsys, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["report", str(tmp_path)])
    assert stopped.value.code == 2
    assert "results.json" in capsys.readouterr().err


def test_evaluate_writes_the_folder(tmp_path, monkeypatch, tiny):
    monkeypatch.setitem(cli.NAMED, "quick", tiny)
    out = tmp_path / "out"
    cli.main(["evaluate", "--preset", "quick", "--out", str(out), "--temperatures", "3"])
    names = {path.name for path in out.iterdir()}
    assert {"config.json", "results.json", "report.html", "figures"} <= names


def test_the_adversary_s_classes_are_an_option(tmp_path):
    out = tmp_path / "out"
    given = ["--preset", "quick", "--out", str(out), "--defenses", "rounding-1"]
    cli.main(["evaluate", *given, "--auxiliary", "other"])
    results = json.loads((out / "results.json").read_text())
    assert results["configuration"]["auxiliary"] == "other"
    group = results["summary"]["3"]
    # Seven classes are left, and the true class's mean is nobody's answer but a mark.
    assert group["floors"]["class_mean"]["mean"] < group["floors"]["label_only"]["mean"]
    for page in ("report.html", "summary.md"):
        assert "are all that the adversary has" in (out / page).read_text()


def test_importing_the_package_does_not_import_the_harness():
    code = "import sys, mipoison; print([m for m in sys.modules if m.startswith('mipoison.eval')])"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert answer.stdout.strip() == "[]"
