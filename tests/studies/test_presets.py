"""What `make study` runs: every defense at four strengths, and the rest of them in the situation of the first."""

from collections import Counter

import pytest
from presets import STUDIES

from mipoison.defenses.lpa.defense import OBJECTIVES
from mipoison.eval.methods import BUILDERS

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
def test_every_defense_is_compared_at_four_strengths(study, rest):
    methods = {m.name: m for name in (study, rest) for m in STUDIES[name].methods}.values()
    builders = Counter(m.builder for m in methods)
    objectives = Counter(dict(m.options)["objective"] for m in methods if m.builder == "lpa")

    assert {name for name in BUILDERS if builders[name] < 4} == ONCE
    # Codebooks are compared by what they certify.
    measured = set(OBJECTIVES) - {"codebook"}
    assert {name: objectives[name] for name in measured} == dict.fromkeys(measured, 4)


SAME = [*PAIRS.items(), ("study-mnist", "asked-mnist"), ("study-faces", "asked-faces")]


@pytest.mark.parametrize(("study", "rest"), SAME)
def test_the_rest_is_run_in_the_same_situation(study, rest):
    one, other = (STUDIES[name].to_json() for name in (study, rest))
    asked = ("methods", "checked_methods", "worst_case_methods")

    assert {name for name in one if one[name] != other[name]} <= set(asked)
