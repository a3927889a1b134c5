"""Defenses are compared at equal mean l1 by their curves, and the beaten ones are left out."""

import pytest

from mipoison.eval.scores.frontier import at_equal_l1, efficient


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


def test_curves_are_read_between_no_defense_and_the_farthest_member():
    group, methods = world(
        ("none", "none", None, 0.0, 0.0),
        ("a-1", "a", 0.1, 0.1, 0.4),
        ("a-2", "a", 0.2, 0.22, 0.7),
        ("b", "b", None, 0.15, 0.3),
    )
    curves = at_equal_l1(group, methods)
    assert list(curves) == ["a", "b"]
    assert curves["a"] == pytest.approx({0.1: 0.4, 0.2: 0.4 + 0.3 * 0.1 / 0.12})
    assert curves["b"][0.1] == pytest.approx(0.2) and curves["b"][0.2] is None


def test_a_member_stands_for_a_mean_l1_that_it_hardly_misses():
    group, methods = world(
        ("none", "none", None, 0.0, 0.0),
        ("near", "near", 0.2, 0.195, 0.5),
        ("far", "far", 0.2, 0.18, 0.5),
    )
    assert at_equal_l1(group, methods) == {"near": {0.2: 0.5}, "far": {0.2: None}}


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
    assert at_equal_l1(group, methods) == {"r": {}}
