"""Leaderboard: its CSV holds a run's numbers, a run replaces its earlier one, and settings are kept apart."""

import json
from dataclasses import replace

import pytest

from mipoison.eval.report import leaderboard


@pytest.fixture
def results(finished):
    return json.loads((finished / "results.json").read_text())


def test_numbers_survive_the_csv_to_five_digits(results, tmp_path):
    leaderboard.add(results, tmp_path, "a")
    kept = leaderboard.read(tmp_path)["a"]
    assert kept["configuration"] == results["configuration"]

    def same(found, wanted):
        assert type(found) is type(wanted) or {type(found), type(wanted)} == {int, float}
        if isinstance(wanted, dict):
            assert found.keys() == wanted.keys()
            for key in wanted:
                # Standard deviations of nearly equal numbers are rounding.
                if key != "sd":
                    same(found[key], wanted[key])
        elif isinstance(wanted, list):
            assert found == wanted
        elif wanted is not None:
            assert found == pytest.approx(wanted, rel=1e-4, abs=1e-12)

    same(kept["summary"], results["summary"])


def test_a_run_replaces_its_earlier_one(results, tmp_path):
    for name in ("a", "b", "a"):
        leaderboard.add(results, tmp_path, name)
    rows = (tmp_path / leaderboard.RESULTS).read_text().splitlines()
    assert len(set(rows)) == len(rows) and set(leaderboard.read(tmp_path)) == {"a", "b"}


def test_undefined_and_unmeasured_numbers_differ(results, tmp_path):
    attacks = results["cells"][0]["defenses"]["none"]["attacks"]
    attacks["clean"]["gain"] = None
    leaderboard.add(results, tmp_path, "a")
    temperature = f"{results['cells'][0]['temperature']:g}"
    measured = leaderboard.read(tmp_path)["a"]["summary"][temperature]["defenses"]
    assert measured["none"]["clean.gain"]["mean"] is None
    # Adversaries with twice the epochs are not tried against every defense.
    assert not any(key.startswith("doubled_epochs") for key in measured["label-only"])


def test_disjoint_classes_are_a_setting_of_their_own(tiny, results, tmp_path):
    changed = results | {"configuration": replace(tiny, auxiliary="other").to_json()}
    leaderboard.add(results, tmp_path, "a")
    leaderboard.add(changed, tmp_path, "b")
    text = leaderboard.write_page(tmp_path).read_text()
    assert text.count("## digits, mlp") == 2 * len(results["summary"])
    leaderboard.add(results, tmp_path, "b")
    text = leaderboard.write_page(tmp_path).read_text()
    assert text.count("## digits, mlp") == len(results["summary"])


def test_unfinished_run_is_refused(results, tmp_path):
    with pytest.raises(ValueError, match="expected a finished run"):
        leaderboard.add(results | {"complete": False}, tmp_path, "a")
