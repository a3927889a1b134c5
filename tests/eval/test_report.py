"""The page is self-contained and comes from the results alone."""

import json
import re
import shutil

import numpy as np
import pytest

from mipoison.eval.report.figures import privacy_utility
from mipoison.eval.report.markdown import summary_page, with_deviation
from mipoison.eval.report.report import compose, draw, tabs, write_report
from mipoison.eval.report.verdict import ahead, leak


@pytest.fixture(scope="module")
def folder(reported):
    return reported


@pytest.fixture(scope="module")
def drawn(folder):
    """The pictures of the results as they are."""
    with np.load(folder / "reconstructions.npz") as arrays:
        return draw(json.loads((folder / "results.json").read_text()), dict(arrays))


def test_page_is_self_contained(folder):
    text = (folder / "report.html").read_text()
    assert "data:image/png;base64," in text
    assert not re.search(r"(src|href)=\"(?!data:)", text)
    assert "http" not in text and "<script" not in text


def test_page_explains_its_words_and_shows_every_defense(folder):
    text = (folder / "report.html").read_text()
    for word in ("<dt>g1</dt>", "<dt>g2</dt>", "<dt>g3</dt>", "label-only ceiling", "worst tenth"):
        assert word in text
    for name in ("none", "label-only", "rounding-1"):
        assert text.count(f"<th>{name}</th>") >= 2
    assert not re.search(r"\bnan\b", re.sub(r"base64,[^\"]*", "", text).lower())


def test_the_summary_holds_the_run_in_markdown(folder):
    text = (folder / "summary.md").read_text()
    results = json.loads((folder / "results.json").read_text())
    for temperature in results["summary"]:
        assert f"## Served at T = {temperature}" in text
    for name in ("none", "label-only", "rounding-1"):
        assert text.count(f"| {name} |") == len(results["summary"])
    # Every table has as many cells in each of its lines.
    for lines in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        assert len({line.count("|") for line in lines.splitlines()}) == 1


def test_pictures_are_also_files(folder):
    names = sorted(path.name for path in (folder / "figures").iterdir())
    assert names == [
        "learning-T1.5.png",
        "learning-T3.png",
        "privacy-utility.png",
        "victims-T1.5-no-budget.png",
        "victims-T3-no-budget.png",
    ]


def test_numbers_come_from_the_results_alone(folder, drawn):
    results = json.loads((folder / "results.json").read_text())
    assert compose(results, drawn) == (folder / "report.html").read_text()
    results["summary"]["3"]["defenses"]["rounding-1"]["adaptive.gain"]["mean"] = 0.4242
    assert "0.42" in compose(results, drawn)


def test_victims_are_shown_a_budget_at_a_time():
    methods = [_of(name, b) for name, b in (("a", 0.1), ("b", 0.1), ("c", 0.2), ("d", None))]
    assert tabs(methods) == {"budget 0.1": ["a", "b"], "budget 0.2": ["c"], "no budget": ["d"]}


def test_the_verdict_compares_where_two_were_measured():
    measured = {"a": (0.1, 0.4), "b": (0.1, 0.2), "c": (0.2, 0.9)}
    group = {
        "floors": {"label_only": {"mean": 0.4}},
        "defenses": {
            name: {
                "utility.l1_mean": {"mean": l1},
                "utility.labels_changed": {"max": 0},
                "adaptive.gain": {"mean": gain},
            }
            for name, (l1, gain) in measured.items()
        }
        | {"none": {"adaptive.mse": {"mean": 0.3}, "variant.wide": {"mean": 0.3}}},
    }
    assert leak(group) == (
        "Without a defense, the strongest adversary reconstructs a victim from one vector with 25% less error than "
        "from the label alone (MSE 0.3000 against 0.4000; wide)."
    )
    methods = [_of("a", 0.1), _of("b", 0.1), _of("c", 0.2)]
    assert ahead(group, methods) == [
        "At a mean l1 of 0.1, a hides 40% of that (g3 0.40), and b, the next, 20%."
    ]


def _of(name, budget):
    options = {} if budget is None else {"budget": budget}
    return {"name": name, "family": name, "options": options, "label_preserving": True}


def test_an_interrupted_run_says_so(folder):
    results = json.loads((folder / "results.json").read_text())
    results |= {"complete": False, "cells_finished": 1, "cells_planned": 2}
    names = [f"{kind}-T{heat}" for kind in ("victims", "learning") for heat in ("1.5", "3")]
    drawn = dict.fromkeys(["privacy-utility", *names], b"")
    results["failed"] = {"seed100-T3": "Traceback\n  somewhere\nRuntimeError: no such luck\n"}
    for text in (compose(results, drawn), summary_page(results)):
        assert "Not finished: 1 of 2 cells" in text
        assert "Cell seed100-T3 failed: RuntimeError: no such luck" in text


def test_worst_cases_are_shown_where_they_were_tried(folder, drawn):
    results = json.loads((folder / "results.json").read_text())
    heading = "Repeated queries, other keys, the leaked key"
    assert heading not in compose(results, drawn) and "averages" not in summary_page(results)
    case = {
        name: {"mean": number, "sd": None}
        for name, number in (("copies.1", 0.71), ("copies.8", 0.63), ("other_keys", 0.52))
    }
    case["key_leaked"] = case["strongest"] = {"mean": 0.41, "sd": None}
    results["summary"]["3"]["worst_cases"] = {"rounding-1": case}
    written, text = compose(results, drawn), summary_page(results)
    assert heading in written and "answers averaged: 8" in written
    assert "<td>0.71</td><td>0.63</td><td>0.52</td><td>0.41</td><td>0.41</td>" in written
    assert (
        "| g3 of an adversary that | averages 1 | averages 8 | simulates other keys | holds the key |"
        in text
    )
    assert "| rounding-1 | 0.71 | 0.63 | 0.52 | 0.41 | 0.41 |" in text


def test_a_run_without_its_images_is_reported_by_its_numbers(finished, tmp_path):
    shutil.copy(finished / "results.json", tmp_path)
    text = write_report(tmp_path).read_text()
    assert "no reconstructions.npz is beside the numbers" in text and "g3" in text
    assert not list((tmp_path / "figures").glob("victims-*"))


def test_no_results_no_report(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"results\.json"):
        write_report(tmp_path)


def test_an_adversary_who_measures_nothing_shows_as_a_dash(folder):
    results = json.loads((folder / "results.json").read_text())
    nothing = dict.fromkeys(("mean", "sd", "min", "max"))
    for group in results["summary"].values():
        group["doubled_epochs"]["none"]["standard.gain_doubled"] = nothing
        for measured in group["defenses"].values():
            for part in ("gain", "median", "worst_decile"):
                measured[f"standard.{part}"] = measured[f"denoiser.{part}"] = nothing
    with np.load(folder / "reconstructions.npz") as arrays:
        drawn = draw(results, dict(arrays))
    assert "<td>–</td>" in compose(results, drawn)
    assert "| – |" in summary_page(results)
    panels = privacy_utility(results["summary"], results["configuration"]["methods"]).axes
    weak, strong = panels[:2]
    assert not weak.containers and strong.containers
    said = [text.get_text() for text in weak.texts]
    assert any("no gain" in text for text in said)
    assert not any("no gain" in text.get_text() for text in strong.texts)


def test_names_are_escaped(folder, drawn):
    results = json.loads((folder / "results.json").read_text())
    for group in results["summary"].values():
        group["defenses"]["a<b"] = group["defenses"]["rounding-1"]
    results["environment"]["processor"] = "<script>"
    text = compose(results, drawn)
    assert "<th>a&lt;b</th>" in text and "a<b" not in text and "<script>" not in text


def test_pictures_come_before_tables_and_definitions_last(folder):
    text = (folder / "report.html").read_text()
    headings = re.findall(r"<h2>(.*?)</h2>", text)
    assert headings[:3] == [
        "In short",
        "The same victims under each defense",
        "Privacy against utility",
    ]
    assert headings[-1] == "What the words mean"


def test_deviation_is_shown_when_there_is_one(folder, drawn):
    assert with_deviation({"mean": 0.123, "sd": 0.01}) == "0.12 ± 0.01"
    results = json.loads((folder / "results.json").read_text())
    results["summary"]["3"]["defenses"]["rounding-1"]["adaptive.mse"] |= {"mean": 0.5, "sd": 0.25}
    assert "<td>0.5000 <small>± 0.2500</small></td>" in compose(results, drawn)
