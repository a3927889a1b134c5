"""A cell repeats itself and its numbers are consistent."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from later import later
from sklearn.datasets import load_digits

from mipoison.eval.run.cell import run_cell, steps_of


@pytest.fixture(scope="module")
def cell(tiny):
    ticks = []
    result = run_cell(tiny, 100, 3.0, tick=lambda: ticks.append(1))
    assert len(ticks) == steps_of(tiny)
    return result


@pytest.mark.parametrize(
    ("dataset", "side", "held_out"), later(("mnist", 28, 100), ("orl", 32, 240))
)
def test_other_data_and_targets_run_end_to_end(tiny, dataset, side, held_out):
    configuration = replace(
        tiny,
        dataset=dataset,
        target="cnn",
        target_epochs=1,
        adversary=replace(
            tiny.adversary,
            held_out=held_out,
            losses=("l1",),
            decoders=("top-10",),
            decoder_channels=4,
            decoder_epochs=1,
        ),
    )
    ticks = []
    result = run_cell(configuration, 100, 4.0, tick=lambda: ticks.append(1))
    assert len(ticks) == steps_of(configuration)
    assert result.images["originals"].shape == (10, side, side)
    bare = result.numbers["defenses"]["none"]
    accuracy = result.numbers["target"]["accuracy"]
    assert {
        "decoder, top-10",
        "decoder, top-10, trained clean",
        "wide MLP, raw+log, l1",
    } <= set(bare["variants"])
    assert accuracy > 0.02 and accuracy == pytest.approx(bare["utility"]["accuracy"])
    assert bare["attacks"]["adaptive"]["mse"] < result.numbers["floors"]["global_mean"]


@pytest.mark.parametrize("shape", [(6, 5), (3, 8)])
def test_own_images_too_small_for_convolutions_run_end_to_end(tiny, shape, tmp_path):
    digits = load_digits()
    x = digits.images[:800, 2 : 2 + shape[0], : shape[1]] / 16
    np.savez(tmp_path / "own.npz", x=x, y=digits.target[:800])
    own = replace(tiny, dataset=f"npz:{tmp_path / 'own.npz'}", target_epochs=10)
    numbers = run_cell(own, 100, 3.0).numbers
    assert numbers["target"]["evaluator_accuracy"] > 0.5
    assert 0 < numbers["defenses"]["none"]["attacks"]["adaptive"]["ssim"] < 1


def test_too_few_rows_are_told_before_anything_is_trained(tiny):
    with pytest.raises(ValueError, match=r"keep 690 back \(held_out\).*got 700"):
        run_cell(
            replace(tiny, adversary=replace(tiny.adversary, neighbours=(20,), held_out=690)),
            100,
            3.0,
        )


def without_times(numbers):
    numbers = json.loads(json.dumps(numbers))
    del numbers["seconds"]
    for defense in numbers["defenses"].values():
        del defense["cost"]
    return numbers


def test_a_cell_repeats_itself_whatever_the_threads(cell, tiny):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        again = run_cell(tiny, 100, 3.0)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert without_times(again.numbers) == without_times(cell.numbers)
    for name, images in cell.images.items():
        np.testing.assert_array_equal(images, again.images[name])


def test_a_target_of_a_strength_of_its_own_is_retrained(cell, tiny):
    retrained = run_cell(replace(tiny, target="mlp+nls:-0.3"), 100, 3.0).numbers
    assert retrained["target"] != cell.numbers["target"]


def test_no_defense_gains_nothing(cell):
    bare = cell.numbers["defenses"]["none"]
    ceiling = cell.numbers["floors"]["label_only"]
    for family, attack in bare["attacks"].items():
        # Adversaries with so few epochs may make less of vectors than of labels; the strongest does not.
        able = family == "adaptive" or attack["mse"] < ceiling
        assert (attack["gain"], attack["median"]) == ((0.0, 0.0) if able else (None, None)), family
    assert bare["utility"]["unchanged"] == 1.0
    crossing = set(bare["train_test"].values())
    assert max(crossing) - min(crossing) < 1e-6


# Variants that undo the defense first.
UNDOING = ("denoiser", "recovery")


def test_a3_is_never_weaker_than_its_variants(cell):
    for defense in cell.numbers["defenses"].values():
        own = [
            numbers["mse"]
            for name, numbers in defense["variants"].items()
            if "trained clean" not in name and not name.startswith(UNDOING)
        ]
        assert defense["attacks"]["adaptive"]["mse"] == min(own)
        assert defense["attacks"]["adaptive chosen"]["mse"] >= min(own)
        assert defense["attacks"]["adaptive"]["mse"] <= defense["attacks"]["standard"]["mse"]


def test_the_denoiser_is_the_best_of_its_variants(cell):
    for defense in cell.numbers["defenses"].values():
        own = {name: n for name, n in defense["variants"].items() if name.startswith(UNDOING)}
        assert len(own) == 4 and all(n["held_out_mse"] > 0 for n in own.values())
        assert defense["attacks"]["denoiser"]["mse"] == min(n["mse"] for n in own.values())


def test_label_only_defense_leaves_the_ceiling(cell):
    """No variant learns more than class means; a few epochs, so loosely."""
    served = cell.numbers["defenses"]["label-only"]
    assert served["variants"]["label only"]["mse"] == cell.numbers["floors"]["label_only"]
    assert served["utility"]["labels_changed"] == 0
    assert served["attacks"]["adaptive"]["gain"] > 0.9


def test_pictures_are_images(cell):
    assert set(cell.images) == {"originals", "label only", "none", "label-only", "rounding-1"}
    for images in cell.images.values():
        assert images.shape == (10, 8, 8) and images.min() >= 0 and images.max() <= 1


def test_every_defense_has_a_certificate_or_none(cell):
    found = {name: one["certificate"] for name, one in cell.numbers["defenses"].items()}
    assert found["none"]["gain"] is None and found["none"]["mse"] == 0
    label, rounded = found["label-only"], found["rounding-1"]
    assert label["answers"] == 10 and label["alone"] == 0 and label["rows"] == 997
    assert rounded["mse"] < label["mse"] < label["mse_seen"] == label["label_mse_seen"]
    assert rounded["answers"] > 20 and 0 < rounded["alone"] < 1
