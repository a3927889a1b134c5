"""docs/results.md and the table of docs/defenses.md are what the committed numbers give."""

import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


def from_script(name, monkeypatch):
    """What a script of the docs defines."""
    monkeypatch.syspath_prepend(str(DOCS))
    return runpy.run_path(str(DOCS / f"{name}.py"))


def test_the_committed_page_is_the_one_that_the_numbers_give(tmp_path):
    docs = tmp_path / "docs"
    docs.mkdir()
    for script in DOCS.glob("*.py"):
        shutil.copy(script, docs)
    shutil.copy(DOCS / "defenses.md", docs)
    shutil.copytree(DOCS / "study", docs / "study")
    subprocess.run([sys.executable, docs / "results_page.py"], check=True, timeout=120)
    for page in ("results.md", "defenses.md"):
        assert (docs / page).read_text() == (DOCS / page).read_text(), page


def study(bare, *names, dataset="digits", asked=()):
    """What is kept of a run of these methods."""
    measured = {"A3.mse": {"mean": bare}}
    methods = [{"name": name} for name in names]
    part = {
        "seeds": [0],
        "defenses": dict.fromkeys(names, measured),
        "worst_cases": {name: {"key_leaked": {"mean": 0.5}} for name in asked},
    }
    return {
        "configuration": {"dataset": dataset, "methods": methods, "worst_case_methods": [*asked]},
        "environment": {"date": f"of {', '.join(names)}"},
        "summary": {"3": part},
    }


def test_two_runs_of_one_situation_are_one_table(monkeypatch):
    joined = from_script("kept_runs", monkeypatch)["joined"]
    whole = joined(study(0.02, "none", "swap"), study(0.02, "none", "lfp"))
    assert [m["name"] for m in whole["configuration"]["methods"]] == ["none", "swap", "lfp"]
    assert set(whole["summary"]["3"]["defenses"]) == {"none", "swap", "lfp"}
    for other, why in (
        (study(0.02, "none", dataset="orl"), "dataset"),
        (study(0.021, "none"), "undefended MSE"),
    ):
        with pytest.raises(SystemExit, match=why):
            joined(study(0.02, "none", "swap"), other)


def test_what_was_asked_again_elsewhere_is_in_the_table_of_worst_cases(monkeypatch):
    joined = from_script("kept_runs", monkeypatch)["joined"]
    plain = joined(study(0.02, "none", "swap"), study(0.02, "none", "lfp"))
    assert not plain["summary"]["3"]["worst_cases"] and not plain["asked_in"]
    whole = joined(plain, study(0.02, "none", "lpa", asked=("lpa",)))
    assert list(whole["summary"]["3"]["worst_cases"]) == ["lpa"]
    assert whole["asked_in"] == {"date": "of none, lpa"}
    assert whole["environment"] == {"date": "of none, swap"}


def test_the_strongest_variants_are_counted(monkeypatch):
    strongest = from_script("study_section", monkeypatch)["strongest"]

    def errors(first, second):
        return {
            "variant.a": {"mean": first},
            "variant.b": {"mean": second},
            "variant.c": {"mean": 9},
            "variant.a, trained clean": {"mean": 0},
            "variant.denoiser, a": {"mean": 0},
        }

    part = {"defenses": {"none": errors(1, 2), "x": errors(2, 1), "y": errors(3, 1)}}
    assert strongest(part) == (
        "Strongest by the mean over seeds, and behind how many of 2 defenses: b (2). Behind none: a; c.\n\n"
    )


def test_targets_that_leak_less_are_counted_from_the_plain_one(monkeypatch):
    section = from_script("retrained_section", monkeypatch)["retrained_section"]

    def trial(seed, mse):
        return {
            "seed": seed,
            "accuracy": 0.9,
            "label_only": 0.04,
            "A2": 0.05,
            "A3": mse,
            "identity": 0.8,
        }

    kept = {
        "environment": {"processor": "a processor", "date": "a day"},
        "temperature": 3.0,
        "targets": {
            "mlp": [trial(0, 0.02), trial(1, 0.02)],
            "mlp+vib:0.1": [trial(0, 0.03), trial(1, 0.04)],
        },
    }
    assert section(kept).splitlines()[-1] == (
        "| information bottleneck, β = 0.1 | 0.900 ± 0.000 | 0.0500 | 0.0350 | 0.0400 | – | 0.75 ± 0.35 | 80% |"
    )
