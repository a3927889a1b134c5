"""What `make study` runs: the strongest along curves, and the rest of the defenses in the situation of the first."""

import json
from collections import Counter
from pathlib import Path

import pytest
import run
from kept import AGAIN, ASKED
from presets import STUDIES, in_folder

from mipoison.defenses.lpa.defense import AUTO, OBJECTIVES
from mipoison.eval.methods import BUILDERS
from mipoison.eval.presets import BASELINES
from mipoison.eval.run.experiment import Outcome

PAIRS = {
    "standard": "more-digits",
    "study-mnist": "more-mnist",
    "study-mnist-confident": "more-mnist-confident",
    "study-faces": "more-faces",
    "study-faces-confident": "more-faces-confident",
}
# No strength, or none that the study is about.
ONCE = {"none", "label_only", "ablation", "outside", "sharpen"}


@pytest.mark.parametrize(("study", "rest"), PAIRS.items())
def test_every_defense_is_compared_and_the_strongest_along_a_curve(study, rest):
    methods = {m.name: m for name in (study, rest) for m in STUDIES[name].methods}.values()
    builders = Counter(m.builder for m in methods)
    objectives = Counter(dict(m.options)["objective"] for m in methods if m.builder == "lpa")

    # Codebooks are compared by what they certify.
    assert set(BUILDERS) - set(builders) <= ONCE and {AUTO, *OBJECTIVES} - set(objectives) <= {
        "codebook",
        # What "auto" keeps for softened vectors.
        "equilibrium",
    }
    assert min(builders[name] for name in BASELINES) >= 3
    assert min(objectives["auto"], objectives["generator"]) >= 3


SAME = [*PAIRS.items(), *ASKED.items(), *AGAIN.items()]


@pytest.mark.parametrize(("study", "rest"), SAME)
def test_the_rest_is_run_in_the_same_situation(study, rest):
    one, other = (STUDIES[name].to_json() for name in (study, rest))
    asked = ("methods", "checked_methods", "worst_case_methods")

    assert {name for name in one if one[name] != other[name]} <= set(asked)


def test_studies_of_faces_are_pointed_at_a_folder():
    pointed = {name: in_folder(study, Path("a/b")) for name, study in STUDIES.items()}
    changed = {name: study.dataset for name, study in pointed.items() if study != STUDIES[name]}
    assert changed == {
        "study-lfw-imagenet": "lfw:a/b",
        "again-lfw-imagenet": "lfw:a/b",
        "study-lfw-imagenet-softened": "lfw:a/b",
        "again-lfw-imagenet-softened": "lfw:a/b",
        "study-lfw-imagenet-48": "lfw-48:a/b",
        "study-lfw-identity": "lfw:a/b",
        "again-lfw-identity": "lfw:a/b",
    }


def test_cells_of_other_code_are_not_taken_for_todays(tmp_path, capsys):
    package, out = tmp_path / "package", tmp_path / "runs" / "study"
    package.mkdir()
    (package / "one.py").write_text("x = 1")
    run.forget_other_code(out, package)
    (out / "cells").mkdir(parents=True)
    (out / "config.json").write_text(json.dumps(STUDIES["standard"].to_json()))
    run.forget_other_code(out, package)
    assert (out / "cells").exists()
    assert capsys.readouterr().err == ""

    other = tmp_path / "runs" / "of-a-user"
    other.mkdir()
    (other / "config.json").write_text('{"model_type": "bert"}')
    (package / "one.py").write_text("x = 2")
    run.forget_other_code(other, package)
    assert (other / "config.json").exists()
    run.forget_other_code(out, package)
    assert not out.exists()
    assert "run anew" in capsys.readouterr().err


def test_where_faces_lie_is_not_kept(tmp_path, monkeypatch):
    kept = []

    def ran(configuration, out, **options):
        out.mkdir()
        (out / "results.json").write_text(json.dumps({"configuration": configuration.to_json()}))
        return Outcome(True, {})

    monkeypatch.setattr(run, "run", ran)
    monkeypatch.setattr(run, "write_report", lambda out: None)
    monkeypatch.setattr(run.leaderboard, "add", lambda results, *where: kept.append(results))
    run.run_study("study-lfw-imagenet", tmp_path / "out", 1, tmp_path / "hidden")
    assert kept[0]["configuration"]["dataset"] == "lfw:lfw"
    assert "hidden" in (tmp_path / "out/results.json").read_text()
    assert "hidden" not in json.dumps(kept)
