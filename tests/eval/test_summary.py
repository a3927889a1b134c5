"""Cells are condensed to statistics over seeds."""

import pytest

from mipoison.eval.scores.summary import statistic, summarise


def cell(seed, temperature, mse):
    attack = {"variant": "MLP, raw", "mse": mse, "gain": 0.5}
    return {
        "seed": seed,
        "temperature": temperature,
        "target": {"accuracy": 0.9},
        "floors": {"label_only": 0.04},
        "defenses": {
            "none": {
                "attacks": {
                    "standard": attack,
                    "adaptive": attack,
                    "adaptive chosen": attack | {"variant": "MLP, raw, on all rows"},
                    "denoiser": attack,
                },
                "utility": {"l1_mean": 0.1},
                "cost": {"fit_seconds": 1.0},
                "train_test": {"clean_clean": mse},
                "certificate": {"gain": None, "answers": 100},
                "variants": {"MLP, raw": {"mse": mse, "held_out_mse": mse}},
            }
        },
        "doubled_epochs": {"none": {"standard": {"mse": mse, "change": -0.01}}},
        "worst_cases": {
            "none": {
                "copies": {"1": mse, "8": 0.5},
                "other_keys": 0.4,
                "key_leaked": 0.3,
                "seed": seed,
            }
        },
    }


def test_cells_are_gathered_by_temperature():
    summary = summarise([cell(1, 3.0, 0.2), cell(2, 3.0, 0.4), cell(1, 1.5, 0.1)])
    assert list(summary) == ["1.5", "3"]
    assert summary["3"]["seeds"] == [1, 2]
    row = summary["3"]["defenses"]["none"]
    assert row["standard.mse"] == pytest.approx(
        {"mean": 0.3, "sd": 0.1414214, "min": 0.2, "max": 0.4}
    )
    assert row["variant.MLP, raw"]["mean"] == pytest.approx(0.3)
    assert row["named.the chosen one, on all rows.MLP, raw, on all rows"]["mean"] == 1.0
    assert row["utility.l1_mean"]["sd"] == 0.0
    assert "standard.variant" not in row
    assert summary["3"]["doubled_epochs"]["none"]["standard.change"]["mean"] == -0.01
    worst = summary["3"]["worst_cases"]["none"]
    assert list(worst) == ["copies.1", "copies.8", "other_keys", "key_leaked", "strongest"]
    assert worst["copies.1"]["mean"] == pytest.approx(0.3)


def test_the_gain_under_all_is_that_under_the_stronger():
    one = cell(1, 3.0, 0.02)
    undefended = one["defenses"]["none"]
    attacks = {"adaptive": {"mse": 0.035}, "denoiser": {"mse": 0.03}}
    chosen = {"adaptive chosen": {"variant": "MLP, raw"}}
    one["defenses"]["noise"] = undefended | {"attacks": attacks | chosen}
    undefended["attacks"] = {"adaptive": {"mse": 0.02}, "denoiser": {"mse": 0.022}} | chosen
    row = summarise([one])["3"]["defenses"]
    # The denoiser's .030 counts, less than the adaptive .035, and of their undefended errors the adaptive one's.
    assert (row["noise"]["all.gain"]["mean"], row["none"]["all.gain"]["mean"]) == (0.5, 0.0)


def test_one_seed_has_no_deviation():
    assert statistic([2.0])["sd"] is None


def test_a_number_that_one_seed_lacks_has_no_mean():
    first, second = cell(1, 3.0, 0.2), cell(2, 3.0, 0.4)
    second["defenses"]["none"]["attacks"]["standard"] = {"mse": 0.4, "gain": None}
    row = summarise([first, second])["3"]["defenses"]["none"]
    assert row["standard.gain"] == {"mean": None, "sd": None, "min": None, "max": None}
    assert row["standard.mse"]["mean"] == pytest.approx(0.3)
