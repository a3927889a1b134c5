"""A user's own vectors are measured from one file, without the classifier that gave them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from tiny import TINY

from mipoison.eval.data.loading import split
from mipoison.eval.run.cell import run_cell
from mipoison.eval.run.experiment import run
from mipoison.eval.run.setup import Setup
from mipoison.eval.targets.training import serve, train_target


@pytest.fixture(scope="module")
def answered():
    """Digits, and what a classifier answers to them."""
    digits = load_digits()
    x, y = (digits.images / 16).astype(np.float32), digits.target
    private = split("digits", seed=100).private
    model = train_target(private, classes=10, seed=0, epochs=2)
    outputs = serve(model, torch.from_numpy(x).flatten(1), temperature=1.0)
    return {"x": x, "y": y, "outputs": outputs.numpy()}


def parts_of(folder, arrays):
    np.savez(folder / "own.npz", **arrays)
    return split(f"npz:{folder / 'own.npz'}", seed=100)


def test_vectors_are_served_as_they_are_stored(answered, tmp_path):
    parts = parts_of(tmp_path, answered)
    setup = Setup.of(parts, "stored", epochs=1, seed=0)
    stored = torch.from_numpy(answered["outputs"])
    for role in (parts.defender, parts.auxiliary, parts.victims):
        served = setup.served(role, temperature=1.0)
        torch.testing.assert_close(served, stored[role.rows], rtol=1e-5, atol=1e-9)
    right = stored.argmax(1)[parts.victims.rows] == parts.victims.labels
    assert setup.accuracy(parts.victims) == pytest.approx(float(right.double().mean()))


def test_logits_are_softened_by_the_temperature(answered, tmp_path):
    logits = np.log(answered["outputs"])
    parts = parts_of(tmp_path, {"x": answered["x"], "logits": logits})
    served = Setup.of(parts, "stored", epochs=1, seed=0).served(parts.victims, temperature=2.0)
    wanted = torch.softmax(torch.from_numpy(logits)[parts.victims.rows] / 2, 1)
    torch.testing.assert_close(served, wanted)


def test_true_classes_may_be_unknown(answered, tmp_path):
    """Then nothing is said of accuracy or identity, and the rest is measured."""
    plain = {name: answered[name] for name in ("x", "outputs")}
    parts = parts_of(tmp_path, plain)
    assert parts.classes == 0 and len(parts.victims) == 359
    configuration = replace(TINY, dataset=f"npz:{tmp_path / 'own.npz'}", target="stored")
    cell = run_cell(configuration, 100, 3.0)
    assert cell.numbers["target"]["accuracy"] is None
    attack = cell.numbers["defenses"]["rounding-1"]["attacks"]["adaptive"]
    assert attack["identity"] is None and attack["gain"] > 0
    assert cell.numbers["floors"]["class_mean"] is None
    assert cell.numbers["defenses"]["label-only"]["certificate"]["rows"] > 359
    assert cell.images["originals"].shape == (10, 8, 8)


def test_a_column_of_each_class_is_found_where_some_classes_do_not_occur(answered, tmp_path):
    kept = answered["y"] >= 4
    parts = parts_of(tmp_path, {name: array[kept] for name, array in answered.items()})
    assert parts.classes == 6 and parts.columns.tolist() == [4, 5, 6, 7, 8, 9]
    assert Setup.of(parts, "stored", epochs=1, seed=0).accuracy(parts.victims) > 0.5


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"outputs": lambda p: p[:5]}, r"outputs of numbers \[1797, K\].*got float32 \[5, 10\]"),
        ({"outputs": lambda p: 2 * p}, "outputs to be probability vectors.*1797 other rows"),
        ({"logits": lambda p: p}, "expected logits or outputs, got both"),
        ({"y": lambda p: p.argmax(1) + 1}, "whole numbers from 0 to 9, got int64 from 1 to 10"),
        ({"y": lambda p: np.array(list("ab"))[p.argmax(1) % 2]}, "leave y out if"),
    ],
)
def test_what_is_stored_wrongly_is_named(changed, said, answered, tmp_path):
    made = {name: make(answered["outputs"]) for name, make in changed.items()}
    with pytest.raises(ValueError, match=said):
        parts_of(tmp_path, answered | made)


def test_a_network_needs_classes_to_be_trained(answered, one_line, tmp_path):
    parts_of(tmp_path, {name: answered[name] for name in ("x", "outputs")})
    given = ["--preset", "quick", "--dataset", f"npz:{tmp_path / 'own.npz'}"]
    told = one_line(["evaluate", *given, "--out", str(tmp_path / "out")])
    assert "--target: expected 'stored' for data without classes, got 'mlp'" in told


def test_digits_store_nothing(one_line, tmp_path):
    given = ["--preset", "quick", "--target", "stored", "--out", str(tmp_path / "out")]
    assert "--target: expected a data set that stores" in one_line(["evaluate", *given])


def test_vectors_that_tell_no_more_than_labels_are_told_in_one_line(answered, tmp_path):
    labels = np.eye(10, dtype=np.float32)[answered["y"]]
    parts_of(tmp_path, {"x": answered["x"], "outputs": labels})
    stored = replace(TINY, dataset=f"npz:{tmp_path / 'own.npz'}", target="stored")
    outcome = run(replace(stored, temperatures=(1.0,), worst_case_methods=()), tmp_path / "out")
    (told,) = outcome.failed.values()
    assert told.startswith("NothingToDefend: expected an adversary who makes more")
    assert "\n" not in told
