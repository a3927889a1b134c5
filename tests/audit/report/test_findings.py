"""What is concluded from errors."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from audited import audited

from mipoison.audit.measure.systems import Measured
from mipoison.audit.report.findings import averaged, gains, of_seeds, recommended, verdict
from mipoison.audit.report.page import _failed
from mipoison.audit.report.record import Asked, record
from mipoison.eval.adversaries.base import STANDARD


def system(errors, name="none", held_out=0.0):
    """One variant with these errors."""
    return Measured(
        name,
        name,
        None,
        {
            "held_out": {STANDARD: held_out},
            "quality": {},
            "utility": {},
            "cost": {},
            "certificate": None,
            "kept": None,
        },
        (STANDARD,),
        0,
        np.asarray([errors], dtype=np.float64),
    )


def test_the_reduction_and_its_spread():
    none, label = system([0.1] * 8 + [0.4, 0.4]), system([0.4] * 10, "label-only")
    told = verdict(none, label, torch.arange(10), seed=0)
    assert told["leaks"] and told["reduction"] == pytest.approx(1 - 0.16 / 0.4)
    assert told["median"] == pytest.approx(0.75) and told["closer"] == pytest.approx(0.8)
    assert told["interval"][0] < told["reduction"] < told["interval"][1]


def test_a_difference_that_chance_may_have_made_is_none():
    generator = np.random.default_rng(100)
    noise = generator.normal(0, 0.1, 60)
    none, label = system(0.5 - 0.002 + noise), system(np.full(60, 0.5), "label-only")
    assert not verdict(none, label, torch.arange(60), seed=0)["leaks"]
    # Ten copies of six inputs say no more than six inputs.
    few = system(np.repeat([0.3, 0.4, 0.55, 0.45, 0.35, 0.52], 10))
    wide = verdict(few, label, torch.arange(60) // 10, seed=0)["interval"]
    narrow = verdict(few, label, torch.arange(60), seed=0)["interval"]
    assert wide[1] - wide[0] > 2 * (narrow[1] - narrow[0])


def test_one_variant_that_is_surely_better_is_said_though_another_was_chosen():
    noise = np.random.default_rng(100).normal(0, 0.1, 60)
    noise -= noise.mean()
    useless = 0.5 + noise

    def told(strong):
        both = np.stack([useless, strong])
        numbers = {"held_out": {STANDARD: 0.1, "other": 0.2}}
        none = Measured("none", "none", None, numbers | {"refit": ""}, (STANDARD, "other"), 0, both)
        label = system(np.full(60, 0.5), "label-only")
        return verdict(none, label, torch.arange(60), seed=0)

    sure = told(0.3 + noise)
    assert sure["chosen_variant"] == STANDARD and sure["chosen_interval"][0] < 0
    assert sure["leaks"] and sure["variant"] == "other"
    # One of several that is better by little may be so by chance.
    by_chance = told(0.473 + noise)
    assert not by_chance["leaks"] and by_chance["interval"][0] > 0


def test_of_several_seeds_one_that_is_sure_says_that_there_is_a_leak():
    noise = np.random.default_rng(100).normal(0, 0.1, 60)
    noise -= noise.mean()
    label, groups = system(np.full(60, 0.5), "label-only"), torch.arange(60)

    def told(strong, seeds):
        return verdict(system(strong + noise), label, groups, seed=0, seeds=seeds)

    assert of_seeds([told(0.3, 2), told(0.499, 2)])["leaks"]
    assert not of_seeds([told(0.499, 2), told(0.499, 2)])["leaks"]
    # One sure seed is not believed against a mean that says the contrary.
    assert told(0.45, 2)["leaks"] and not of_seeds([told(0.45, 2), told(0.6, 2)])["leaks"]
    # What one seed alone would find may be chance in one of twenty.
    assert told(0.47, 1)["leaks"] and not told(0.47, 20)["leaks"]


def test_gains_lie_between_the_references():
    none, label = system([0.1] * 4), system([0.5] * 4, "label-only")
    one = gains(system([0.4] * 4, "a"), none, label, leaks=True)
    assert one["gain"] == one["g2"] == one["g3"] == one["median"] == pytest.approx(0.75)
    assert gains(system([0.4] * 4, "a"), none, label, leaks=False)["gain"] is None
    failed = Measured("a", "a", 0.1, {"failed": "too little"})
    assert gains(failed, none, label, leaks=True) == {"failed": "too little"}


def test_the_certified_gain_counts_from_the_undefended_error():
    none, label = system([0.1] * 4), system([0.5] * 4, "label-only")
    proved = {"mse": 0.3, "label_mse_seen": 0.5, "confidence": 0.95}
    one = system([0.4] * 4, "a")
    one = replace(one, numbers={**one.numbers, "certificate": proved})
    assert gains(one, none, label, leaks=True)["certified_gain"] == pytest.approx(0.5)
    below = replace(one, numbers={**one.numbers, "certificate": {**proved, "mse": 0.05}})
    assert gains(below, none, label, leaks=True)["certified_gain"] is None


def cost(l1, gain, labels=0.0, repeats=1.0):
    return {"gain": gain, "utility": {"l1_mean": l1, "labels_changed": labels, "repeats": repeats}}


def test_the_recommended_defense_wins_enough_and_moves_least():
    able = {"far": cost(0.3, 0.99), "near": cost(0.1, 0.82), "weak": cost(0.01, 0.5)}
    assert recommended(able) == "near"
    assert (
        recommended(able | {"as near": cost(0.109, 0.9), "farther": cost(0.12, 1.0)}) == "as near"
    )
    assert recommended({"weak": able["weak"], "weaker": cost(0.01, 0.1)}) == "weak"
    assert (
        recommended({"fresh": cost(0.1, 0.9, repeats=0.5), "flips": cost(0.1, 0.9, labels=1.0)})
        is None
    )
    assert recommended({"useless": cost(0.1, -0.1), "failed": {"failed": "why"}}) is None


def test_means_over_seeds_keep_what_all_of_them_have():
    assert averaged([{"a": 1, "b": "x", "c": [1.0, 2.0]}, {"a": 3, "b": "y", "c": [3.0, 4.0]}]) == {
        "a": 2,
        "b": "x / y",
        "c": [2.0, 3.0],
    }
    assert averaged([True, False]) is False


def test_an_audit_finds_what_is_there_and_nothing_where_nothing_is():
    leak = audited().content
    assert leak["verdict"]["leaks"] and leak["verdict"]["reduction"] > 0.3
    assert leak["systems"]["none"]["gain"] == 0 and leak["systems"]["label-only"]["gain"] == 1
    assert leak["systems"]["lpa-codebook"]["gain"] > 0.9 and leak["recommended"] is not None
    nothing = audited(leaking=False).content
    assert not nothing["verdict"]["leaks"] and nothing["recommended"] is None
    assert all(one["gain"] is None for one in nothing["systems"].values())


def test_the_record_can_be_cited():
    content = json.loads(json.dumps(audited().content))
    assert (content["schema"], content["version"]) == ("mipoison-audit", 1)
    assert content["roles"]["victims"] == 80 and content["versions"]["torch"]
    assert {one["id"] for one in content["mapping"]} >= {"AML.T0024.001", "AML.M0002"}
    assert len(content["skipped"]) == 23 and content["limits"] and content["headline"]


def test_several_seeds_are_averaged_and_kept():
    one = audited()
    failed = Measured("rounding-1", "rounding", None, {"failed": "too little"})
    other = one.measured | {"rounding-1": failed}
    asked = Asked("quick", (100, 101), (0.1,), 1, 1.0)
    both = [(one.setting, one.measured), (one.setting, other)]
    content = json.loads(json.dumps(record(one.evidence, asked, both)))
    assert [seed["seed"] for seed in content["each_seed"]] == [100, 101]
    assert content["verdict"]["reduction"] == pytest.approx(one.content["verdict"]["reduction"])
    # What a seed could not fit has no mean.
    assert content["systems"]["rounding-1"]["failed"] == "too little"
    assert (
        content["systems"]["lpa-codebook"]["gain"] == one.content["systems"]["lpa-codebook"]["gain"]
    )
    assert _failed(content) == [("rounding to 1 decimals", "too little")]
