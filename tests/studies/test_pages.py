"""docs/results.md, docs/defenses.md and the README's table are what the committed numbers give."""

import json
import shutil
import subprocess
from pathlib import Path

import fresh
import kept
import long_pages
import people_section
import pytest
import retrained_section
import rotation_section
from csv_rows import write_rows
from kept import joined, made, renewed
from study_section import strongest

ROOT = Path(__file__).parents[2]
GUIDES = tuple(
    f"docs/guides/{name}.md" for name in ("certificates", "keys", "operate", "watch-the-traffic")
)
# Runs a script whose figures come out empty: pictures are not compared, and take most of the time.
WITHOUT_PICTURES = """
import runpy, sys
from matplotlib.figure import Figure
from PIL import Image
Figure.savefig = lambda self, to, **options: Image.new("RGB", (1, 1)).save(to, "PNG")
sys.argv = ["{}"]
sys.path.insert(0, sys.argv[0].rpartition("/")[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize(
    ("script", "pages"),
    [
        ("results_page.py", ("docs/results.md", "docs/defenses.md", *GUIDES)),
        ("demo.py", ("README.md",)),
    ],
)
def test_committed_pages_are_those_of_the_committed_numbers(script, pages, tmp_path):
    shutil.copytree(ROOT / "studies", tmp_path / "studies")
    for folder in ("docs/results", "docs/guides"):
        (tmp_path / folder).mkdir(parents=True)
    for page in ("README.md", "docs/defenses.md", *GUIDES):
        shutil.copy(ROOT / page, tmp_path / page)
    done = fresh.run(WITHOUT_PICTURES.format(tmp_path / "studies" / script))
    assert done.returncode == 0, done.stderr
    for page in pages:
        assert (tmp_path / page).read_text() == (ROOT / page).read_text(), page


def test_runs_with_other_settings_than_todays_are_named(monkeypatch):
    today = kept.STUDIES["study-nls"].to_json()
    run = {"environment": {"date": "2026-01-02"}, "configuration": json.loads(json.dumps(today))}
    changed = run | {"configuration": run["configuration"] | {"temperatures": [9.0]}}
    runs = {"study-nls": run, "study-vib": changed, "demo": changed}
    monkeypatch.setattr(kept.leaderboard, "read_runs", lambda folder: runs)
    assert kept.older() == ["`study-vib` (2026-01-02)"]
    assert not any("study-nls" in name or "study-vib" in name for name in kept.missing())


def test_results_page_is_short():
    assert len((ROOT / "docs/results.md").read_text().splitlines()) <= 200


# (The build of the site writes them, too.)
@pytest.mark.full
def test_long_pages_show_every_run(tmp_path):
    long_pages.write(tmp_path)
    everything = (tmp_path / "results-in-full.md").read_text()
    assert all(f"## {kept.TITLES[name]}\n" in everything for name in kept.studies_kept())
    assert "## What the key is worth" in everything and "## Trained to leak less" in everything
    assert (tmp_path / "leaderboard.md").read_text().count("\n## ") >= 6


def test_everything_committed_beside_code_is_small():
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False
    ).stdout.decode()
    if not names:
        pytest.skip("this is no git checkout")
    code = {".py", ".pyi", ".h", ".cpp"}
    paths = [ROOT / name for name in names.split("\0") if name]
    assert sum(p.stat().st_size for p in paths if p.suffix not in code and p.exists()) <= 3e6


def study(bare, *names, dataset="digits", asked=()):
    """What is kept of a run of these methods."""
    measured = {"adaptive.mse": {"mean": bare}}
    methods = [{"name": name, "options": {}} for name in names]
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


def test_two_runs_of_one_situation_are_one_table():
    whole = joined(study(0.02, "none", "swap"), study(0.02, "none", "lfp"))
    assert [m["name"] for m in whole["configuration"]["methods"]] == ["none", "swap", "lfp"]
    assert set(whole["summary"]["3"]["defenses"]) == {"none", "swap", "lfp"}
    for other, why in (
        (study(0.02, "none", dataset="orl"), "dataset"),
        (study(0.021, "none"), "undefended MSE"),
    ):
        with pytest.raises(SystemExit, match=why):
            joined(study(0.02, "none", "swap"), other)


def test_worst_cases_of_another_run_are_joined():
    plain = joined(study(0.02, "none", "swap"), study(0.02, "none", "lfp"))
    assert not plain["summary"]["3"]["worst_cases"] and not plain["asked_in"]
    whole = joined(plain, study(0.02, "none", "lpa", asked=("lpa",)))
    assert list(whole["summary"]["3"]["worst_cases"]) == ["lpa"]
    assert whole["asked_in"] == {"date": "of none, lpa"}
    assert whole["environment"] == {"date": "of none, swap"}


def test_what_was_run_again_takes_the_place_of_what_was_there():
    first = study(0.02, "none", "lpa", "swap", asked=("lpa", "swap")) | {"seconds": [60.0]}
    again = study(0.02, "none", "lpa", asked=("lpa",))
    again["summary"]["3"]["defenses"] = {
        name: measured | {"new": True}
        for name, measured in again["summary"]["3"]["defenses"].items()
    }
    again["summary"]["3"]["worst_cases"]["lpa"] = {"key_leaked": {"mean": 0.9}}
    again["configuration"]["methods"][1] |= {
        "family": "LPA, the default",
        "options": {"budget": 0.1},
    }
    again["environment"] = {"date": "2026-11-30"}
    both = renewed(first, again)
    part = both["summary"]["3"]
    assert [name for name, measured in part["defenses"].items() if "new" in measured] == [
        "none",
        "lpa",
    ]
    assert set(part["defenses"]) == {"none", "lpa", "swap"}
    told = {name: case["key_leaked"]["mean"] for name, case in part["worst_cases"].items()}
    assert told == {"lpa": 0.9, "swap": 0.5}
    assert both["configuration"] == first["configuration"] and both["seconds"] == [60.0]
    assert (
        made({"processor": "a", "date": "b"} | {"renewed": both["environment"]["renewed"]})
        == "a, b (LPA, the default run again, after a change, on 2026-11-30)"
    )


def test_the_strongest_variants_are_counted():
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


def test_retrained_targets_are_compared_with_the_plain_one(tmp_path, monkeypatch):
    def trial(target, seed, mse):
        return {
            "target": target,
            "seed": seed,
            "accuracy": 0.9,
            "label_only": 0.04,
            "standard": 0.05,
            "adaptive": mse,
            "identity": 0.8,
        }

    rows = [trial("mlp", 0, 0.02), trial("mlp", 1, 0.02)]
    rows += [trial("mlp+vib:0.1", 0, 0.03), trial("mlp+vib:0.1", 1, 0.04)]
    write_rows(tmp_path / "rows.csv", rows, {"processor": "a processor", "date": "a day"})
    monkeypatch.setattr(retrained_section, "FILE", tmp_path / "rows.csv")
    assert retrained_section.retrained_section().splitlines()[-1] == (
        "| information bottleneck, β = 0.1 | 0.900 ± 0.000 | 0.0500 | 0.0350 | 0.0400 | – | 0.75 ± 0.35 | 80% |"
    )


def test_an_adversary_with_two_answers_takes_the_best_use_of_each_seed(tmp_path, monkeypatch):
    gains = {"one": (0.7, 0.6), "mean": (0.6, 0.7), "side by side": (0.8, 0.5)}
    rows = [
        {"defense": "lfp-0.05", "seed": seed, "answers": used, "gain": gain}
        for used, of_seeds in gains.items()
        for seed, gain in enumerate(of_seeds)
    ]
    write_rows(tmp_path / "rows.csv", rows, {"processor": "a processor", "date": "a day"})
    monkeypatch.setattr(rotation_section, "FILE", tmp_path / "rows.csv")
    assert rotation_section.rotation_section().splitlines()[-1] == (
        "| LFP, rate 0.05 | 0.65 ± 0.07 | 0.65 ± 0.07 | 0.65 ± 0.21 | 0.55 ± 0.07 |"
    )


def test_people_have_a_line_an_attribute_and_a_line_a_defense(tmp_path, monkeypatch):
    heads = ("leaks", "l1", "mse", "g2", "g3", "gain", "median", "certified", "kept", "strongest")
    systems = ["from nothing", "none", "label-only", *(one.name for one in people_section.METHODS)]
    # (One defense could not be fitted on the second seed.)
    rows = [
        {"system": name, "seed": seed, **dict.fromkeys(heads, ""), "mse": 0.1, "l1": 0.02 * seed}
        | {"g2": 0.5, "g3": 0.4, "gain": 0.3, "median": 0.2, "age": 0.1 * seed, "sex": 0.7}
        | {"kept": ("equilibrium", "cutoff")[seed - 1] if "auto" in name else ""}
        for name in systems
        for seed in (1, 2)
        if (name, seed) != ("lpa-codebook-l1-0.025", 2)
    ]
    write_rows(tmp_path / "rows.csv", rows, {"processor": "a processor", "date": "a day"})
    monkeypatch.setattr(people_section, "FILE", tmp_path / "rows.csv")
    lines = people_section.people_section().splitlines()
    auto = "| LPA auto | 0.07 | 0.030 | 0.50 | 0.40 | 0.30 | 0.20 | – | equilibrium, cutoff |"
    assert auto in lines
    assert "| LPA codebook | 0.025 | not to be had | | | | | | |" in lines
    assert lines[-2:] == [
        "| age (R²) | 0.15 | 0.15 | 0.15 | 0.15 | 0.15 | 0.15 |",
        "| sex | 0.70 | 0.70 | 0.70 | 0.70 | 0.70 | 0.70 |",
    ]
