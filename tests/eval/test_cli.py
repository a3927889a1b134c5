"""The command line says what is allowed."""

import json
from dataclasses import replace

import fresh
import pytest

from mipoison.eval import cli
from mipoison.eval.configuration import Configuration
from mipoison.eval.run import experiment


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
    given = ["--preset", "quick", "--out", str(out), "--temperatures", "3", "--jobs", "1"]
    cli.main(["evaluate", *given])
    names = {path.name for path in out.iterdir()}
    assert {"config.json", "results.json", "report.html", "figures"} <= names


@pytest.mark.full
def test_the_adversary_s_classes_are_an_option(tmp_path):
    out = tmp_path / "out"
    given = ["--preset", "quick", "--out", str(out), "--defenses", "rounding-1", "--jobs", "1"]
    cli.main(["evaluate", *given, "--auxiliary", "other"])
    results = json.loads((out / "results.json").read_text())
    assert results["configuration"]["auxiliary"] == "other"
    group = results["summary"]["3"]
    # Seven classes are left, and the true class's mean is nobody's answer but a mark.
    assert group["floors"]["class_mean"]["mean"] < group["floors"]["label_only"]["mean"]
    for page in ("report.html", "summary.md"):
        assert "are all that the adversary has" in (out / page).read_text()


@pytest.fixture(scope="module")
def changed(tiny, tmp_path_factory):
    """A run whose options change what its preset says, down to the adversaries and to a target's own strength."""
    out = tmp_path_factory.mktemp("changed") / "out"
    given = ["--preset", "quick", "--out", str(out), "--temperatures", "3", "--target-epochs", "2"]
    given += [
        "--jobs",
        "1",
        "--adversary.losses",
        "l1",
        "--adversary.wide-epochs",
        "1",
        "--target",
        "mlp+vib:0.1",
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(cli.NAMED, "quick", tiny)
        cli.main(["evaluate", *given])
    return out


def test_every_part_of_the_experiment_is_an_option(changed, tiny):
    ran = Configuration.from_json(json.loads((changed / "config.json").read_text()))
    adversary = replace(tiny.adversary, losses=("l1",), wide_epochs=1)
    parts = {"temperatures": (3.0,), "target": "mlp+vib:0.1", "target_epochs": 2}
    assert ran == replace(tiny, adversary=adversary, **parts)


def test_a_target_with_a_strength_of_its_own_has_a_report(changed):
    text = (changed / "report.html").read_text()
    assert "defended by an information bottleneck of strength 0.1" in text
    # The reference is of the plain target.
    assert text.count("none known") == 3


def test_cells_that_fail_alike_are_told_together(tmp_path, capsys, monkeypatch, tiny):
    def failing(*given, **named):
        raise RuntimeError("no such luck")

    monkeypatch.setitem(cli.NAMED, "quick", tiny)
    monkeypatch.setattr(experiment, "run_cell", failing)
    with pytest.raises(SystemExit) as stopped:
        cli.main(["evaluate", "--preset", "quick", "--out", str(tmp_path / "out"), "--jobs", "1"])
    told = capsys.readouterr().err
    assert stopped.value.code == 1 and told.count("RuntimeError: no such luck") == 1
    assert "failed: seed100-T1_5, seed100-T3\n" in told
    assert "not finished; no cell was finished" in told.splitlines()[-1]


def test_a_full_disk_is_no_traceback(tmp_path, capsys, monkeypatch, tiny):
    def full(*given, **named):
        raise OSError(28, "No space left on device", "cells/x")

    monkeypatch.setitem(cli.NAMED, "quick", tiny)
    monkeypatch.setattr(experiment, "run_cell", full)
    with pytest.raises(SystemExit) as stopped:
        cli.main(["evaluate", "--preset", "quick", "--out", str(tmp_path / "out"), "--jobs", "1"])
    told = capsys.readouterr().err
    assert stopped.value.code == 1 and "Traceback" not in told
    assert told.count("No space left on device: 'cells/x'") == 1


def test_importing_the_package_does_not_import_the_harness():
    code = "import sys, mipoison; print([m for m in sys.modules if m.startswith('mipoison.eval')])"
    answer = fresh.run(code)
    assert answer.stdout.strip() == "[]", answer.stderr
