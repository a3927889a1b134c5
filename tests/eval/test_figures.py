"""Pictures are labelled and show the ceiling."""

import json

import numpy as np
import pytest

from mipoison.eval.report.figures import learning_curves, png_of, privacy_utility, victims


def test_victims_have_one_panel_an_image():
    images = {name: np.random.default_rng(0).random((3, 8, 8)) for name in ("originals", "mine")}
    images["label only"] = np.zeros((3, 8, 8))
    figure = victims(images, ["mine"], {"mine": "g3 0.5"}, title="some")
    assert len(figure.axes) == 9
    assert figure.axes[3].get_ylabel() == "mine\ng3 0.5"
    assert png_of(figure).startswith(b"\x89PNG")


def test_privacy_utility_draws_the_ceiling(finished):
    results = json.loads((finished / "results.json").read_text())
    figure = privacy_utility(results["summary"], results["configuration"]["methods"])
    assert len(figure.axes) == 4
    for panel in figure.axes:
        assert "label-only ceiling" in panel.texts[0].get_text()
        assert "l1" in panel.get_xlabel()
    assert figure.axes[0].get_ylabel().startswith("gain")


def test_privacy_utility_shows_what_is_certified(finished):
    results = json.loads((finished / "results.json").read_text())
    panels = privacy_utility(results["summary"], results["configuration"]["methods"]).axes
    for standard, adaptive in zip(panels[::2], panels[1::2], strict=True):
        assert "certified" in adaptive.get_title() and "certified" not in standard.get_title()
        drawn = [dash.get_offsets() for dash in adaptive.collections if hasattr(dash, "get_sizes")]
        assert sum(len(dashes) for dashes in drawn) >= 1


@pytest.mark.parametrize("names", [["none"], ["none", "rounding-1"]])
def test_learning_curves_have_labelled_axes(finished, names):
    results = json.loads((finished / "results.json").read_text())
    methods = results["configuration"]["methods"]
    figure = learning_curves(results["cells"][0], names, methods)
    assert [panel.get_xlabel() for panel in figure.axes] == ["epoch"] * 4
    assert "squared" in figure.axes[0].get_ylabel()


def look(line):
    return line.get_color(), line.get_marker(), line.get_markerfacecolor()


def test_no_two_families_look_alike(finished):
    results = json.loads((finished / "results.json").read_text())
    methods = results["configuration"]["methods"]
    measured = next(iter(results["summary"].values()))["defenses"]["none"]
    many = [{"name": f"m{i}", "family": f"family {i}"} for i in range(30)]
    summary = {"3": {"defenses": {method["name"]: measured for method in many}}}
    lines = privacy_utility(summary, many).axes[1].containers
    looks = {look(bar[0]) for bar in lines}
    assert len(lines) == len(looks) == 30 and len(methods) < 30


def test_no_two_families_learn_alike():
    many = [{"name": f"m{i}", "family": f"family {i}"} for i in range(30)]
    curves = {"an adversary": {"train": [0.2, 0.1], "held_out": [0.3, 0.2]}}
    cell = {
        "floors": {"label_only": 0.25},
        "defenses": {method["name"]: {"curves": curves} for method in many},
    }
    panel = learning_curves(cell, [method["name"] for method in many], many).axes[0]
    solid = [line for line in panel.lines if line.get_label() in cell["defenses"]]
    assert len(set(map(look, solid))) == 30
