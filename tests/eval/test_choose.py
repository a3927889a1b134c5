"""The operating point: the best within a bound, and code that runs."""

import json
import math

import pytest
import torch

from mipoison.eval import cli
from mipoison.eval.report.choose import choose

METHODS = {
    # name: builder, options, g3, certified, mean l1, label-preserving
    "none": ("none", {}, 0.0, None, 0.0, True),
    "label-only": ("label_only", {}, 1.0, 0.95, 1.1, True),
    "rounding-1": ("rounding", {"decimals": 1}, 0.4, 0.1, 0.3, True),
    "swap-0.1": ("swap", {"mean_l1": 0.1}, 0.2, -0.5, 0.1, True),
    "lpa-0.1": ("lpa", {"objective": "decoy", "budget": 0.1}, 0.5, None, 0.12, True),
    "codebook": ("lpa", {"objective": "codebook", "budget": 0.45}, 0.55, 0.6, 0.45, True),
    "lfp-0.05": ("lfp", {"rate": 0.05}, 0.9, None, 0.05, False),
}


def results(*temperatures):
    methods = [
        {"name": name, "builder": builder, "options": options, "label_preserving": keeps}
        for name, (builder, options, *_, keeps) in METHODS.items()
    ]
    group = {
        "seeds": [0, 1],
        "defenses": {
            name: {
                "adaptive.gain": {"mean": gain},
                "all.gain": {"mean": gain},
                "certificate.gain": {"mean": certified},
                "utility.repeats": {"min": 1.0},
                "utility.l1_mean": {"mean": l1},
                "utility.labels_changed": {"max": 0.0},
            }
            for name, (_, _, gain, certified, l1, _) in METHODS.items()
        },
    }
    return {
        "complete": True,
        "configuration": {"dataset": "digits", "auxiliary": "same", "methods": methods},
        "summary": {f"{temperature:g}": group for temperature in temperatures},
    }


@pytest.mark.parametrize(
    ("bound", "name"),
    [
        ({"max_l1": 0.15}, "lpa-0.1"),
        ({"max_l1": 0.11}, "swap-0.1"),
        ({"max_l1": 2.0}, "label-only"),
        ({"min_gain": 0.3}, "lpa-0.1"),
        ({"min_gain": 0.6}, "label-only"),
        ({"certified": 0.5}, "codebook"),
        ({"certified": -1.0}, "swap-0.1"),
        ({"certified": 0.9}, "label-only"),
    ],
)
def test_the_best_within_a_bound(bound, name):
    found = choose(results(3.0), **bound)
    assert found.name == name and found.temperature == 3.0
    assert found.conditions == "digits, T = 3, seeds 0, 1"


@pytest.mark.parametrize(
    "bound",
    [{"max_l1": 0.15}, {"max_l1": 0.11}, {"max_l1": 0.4}, {"min_gain": 0.6}, {"certified": 0.5}],
)
def test_its_code_deploys_it(bound):
    outputs = torch.softmax(2 * torch.randn(80, 5), 1)
    names = {
        "outputs": outputs,
        "inputs": torch.rand(80, 6),
        "secret": 1,
        "model": torch.nn.Linear(6, 5),
    }
    code = choose(results(3.0), **bound).code
    assert len(code.splitlines()) == 3
    exec(code, names)
    assert names["served"](torch.rand(4, 6)).shape == (4, 5)


def test_code_of_a_defense_from_outside_runs_too(tmp_path, monkeypatch):
    (tmp_path / "own_defense.py").write_text(
        "import numpy\ndef half(p): return (numpy.asarray(p) + 1 / p.shape[1]) / 2\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    run = results(3.0)
    method = next(m for m in run["configuration"]["methods"] if m["name"] == "swap-0.1")
    method |= {"builder": "outside", "options": {"callable": "own_defense:half"}}
    code = choose(run, max_l1=0.11).code
    names = {"outputs": torch.rand(8, 5), "inputs": torch.rand(8, 6), "secret": 1}
    names["model"] = torch.nn.Linear(6, 5)
    exec(code, names)
    x = torch.rand(4, 6)
    expected = (torch.softmax(names["model"](x) / 3, -1) + 0.2) / 2
    torch.testing.assert_close(names["served"](x), expected)


def test_the_denoiser_counts():
    run = results(3.0)
    measured = run["summary"]["3"]["defenses"]
    measured["lpa-0.1"]["all.gain"] = {"mean": 0.1}
    found = choose(run, max_l1=0.15)
    assert found.name == "swap-0.1" and found.gain == 0.2
    # One that measures nothing counts for nothing.
    measured["lpa-0.1"]["all.gain"] = {"mean": None}
    assert choose(run, max_l1=0.15).name == "lpa-0.1"


def test_fresh_noise_is_not_deployed():
    run = results(3.0)
    run["summary"]["3"]["defenses"]["lpa-0.1"]["utility.repeats"] = {"min": 0.0}
    assert choose(run, max_l1=0.15).name == "swap-0.1"


def test_an_unfinished_run_is_refused():
    with pytest.raises(ValueError, match="expected a finished run"):
        choose(results(3.0) | {"complete": False}, max_l1=0.15)


def test_a_changed_rule_is_not_deployed():
    run = results(3.0)
    chosen = choose(run, max_l1=0.15).name
    for method in run["configuration"]["methods"]:
        if method["name"] == chosen:
            method["builder"] = "ablation"
    assert choose(run, max_l1=0.15).name != chosen


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "expected one of max_l1, min_gain and certified, got none or several"),
        ({"max_l1": 0.1, "min_gain": 0.1}, "got none or several"),
        ({"max_l1": math.nan}, "^max_l1: expected a number >= 0, got nan"),
        ({"max_l1": -0.1}, r"^max_l1: expected a number >= 0, got -0\.1"),
        ({"min_gain": math.nan}, "^min_gain: expected a number, got nan"),
        ({"max_l1": 0.1}, "temperature: expected one of 1, 3, got None"),
        ({"max_l1": 0.1, "temperature": 2.0}, "one of 1, 3, got 2.0"),
        ({"max_l1": 0.01, "temperature": 3.0}, "nearest is swap-0.1 with a gain of 0.20"),
        ({"min_gain": 1.5, "temperature": 3.0}, "nearest is label-only with a gain of 1.00"),
    ],
)
def test_what_cannot_be_chosen_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        choose(results(1.0, 3.0), **given)


def test_the_command_prints_it(finished, capsys):
    cli.main(["choose", str(finished), "--max-l1", "3", "--temperature", "1.5"])
    printed = capsys.readouterr().out
    assert "served = mp.Defended(model, defense" in printed and "T = 1.5, seeds 100" in printed


def test_the_command_refuses_a_folder_without_results(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text(json.dumps("mine"))
    with pytest.raises(SystemExit) as stopped:
        cli.main(["choose", str(tmp_path), "--max-l1", "0.1"])
    assert stopped.value.code == 2 and "results.json" in capsys.readouterr().err
