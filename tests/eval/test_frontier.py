"""Defenses are compared at equal mean l1 by their curves, and the beaten ones are left out."""

import pytest

from mipoison.eval.scores.frontier import at_equal_l1, efficient, strongest_variant


def method(name, family, l1=None, *, keeps=True):
    options = {} if l1 is None else {"budget": l1}
    return {"name": name, "family": family, "options": options, "label_preserving": keeps}


def world(*defenses):
    """(name, family, aimed l1, realised l1, g3) each."""
    methods = [method(name, family, aimed) for name, family, aimed, *_ in defenses]
    group = {
        "defenses": {
            name: {
                "utility.l1_mean": {"mean": l1},
                "adaptive.gain": {"mean": gain},
                "utility.labels_changed": {"max": 0},
            }
            for name, _, _, l1, gain in defenses
        }
    }
    return group, methods


def test_curves_are_read_between_measured_members_alone():
    group, methods = world(
        ("none", "none", None, 0.0, 0.0),
        ("a-1", "a", 0.1, 0.1, 0.4),
        ("a-2", "a", 0.2, 0.22, 0.7),
        ("a-3", "a", 0.05, 0.06, 0.3),
        ("b", "b", None, 0.15, 0.3),
    )
    curves = at_equal_l1(group, methods)
    # One member is no curve, and nothing is read off a line to no defense.
    assert list(curves) == ["a"]
    assert curves["a"][0.05] is None
    assert curves["a"] == pytest.approx({0.05: None, 0.1: 0.4, 0.2: 0.4 + 0.3 * 0.1 / 0.12})


def test_a_member_stands_for_a_mean_l1_that_it_hardly_misses():
    group, methods = world(
        ("none", "none", None, 0.0, 0.0),
        ("near", "near", 0.2, 0.195, 0.5),
        ("beyond", "beyond", 0.2, 0.208, 0.6),
        ("far", "far", 0.2, 0.18, 0.5),
    )
    assert at_equal_l1(group, methods) == {"near": {0.2: 0.5}, "beyond": {0.2: 0.6}}


def test_the_strongest_variant_errs_least_and_is_adaptive():
    errors = {"raw": 0.3, "wide": 0.2, "raw, trained clean": 0.1, "denoiser, raw": 0.1}
    errors["recovery of images"] = 0.1
    measured = {f"variant.{name}": {"mean": error} for name, error in errors.items()}
    assert strongest_variant({**measured, "adaptive.mse": {"mean": 0.0}}) == "wide"


@pytest.mark.parametrize(
    ("shares", "named"),
    [
        ({"raw": 0.0, "wide": 1.0}, "wide"),
        ({"raw": 1 / 3, "wide": 2 / 3}, "mostly wide"),
        ({}, "best"),
    ],
)
def test_a_variant_that_is_another_one_for_each_seed_is_told(shares, named):
    errors = {"raw": 0.3, "wide": 0.3, "best": 0.2}
    measured = {f"variant.{name}": {"mean": error} for name, error in errors.items()}
    measured |= {f"named.best.{name}": {"mean": share} for name, share in shares.items()}
    assert strongest_variant(measured) == named


def test_the_beaten_are_left_out():
    group, methods = world(
        ("none", "none", None, 0.0, 0.0),
        ("best", "a", 0.1, 0.1, 0.6),
        ("beaten", "b", 0.1, 0.12, 0.5),
        ("far", "b", 0.2, 0.9, 0.8),
        ("flips", "c", None, 0.05, 0.9),
    )
    methods[-1]["label_preserving"] = False
    assert efficient(group, methods) == ["none", "best", "far"]


def test_twins_beat_each_other_not():
    group, methods = world(("x", "a", 0.1, 0.1, 0.5), ("y", "b", 0.1, 0.1, 0.5))
    assert efficient(group, methods) == ["x", "y"]


def test_without_budgets_there_is_no_table():
    group, methods = world(("none", "none", None, 0.0, 0.0), ("r", "r", None, 0.2, 0.5))
    assert at_equal_l1(group, methods) == {}
