"""Classifiers from outside are served like ours, whatever they are made of, and wrong ones are refused."""

import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

from mipoison.eval.data.loading import split
from mipoison.eval.run.cell import run_cell
from mipoison.eval.targets.own import is_outside, kind_of_scores, outside_target
from mipoison.eval.targets.training import accuracy, serve, train_target

CODE = """
import torch
from sklearn.naive_bayes import GaussianNB
logits = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
probabilities = torch.nn.Sequential(logits, torch.nn.Softmax(-1))
def inplace(images): return logits(images.sub_(0.5).div_(0.25))
def seven(images): return torch.zeros(len(images), 7)
Bayes = GaussianNB
number = 3
"""


@pytest.fixture(scope="module")
def parts():
    return split("digits", seed=100)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "theirs.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("theirs", None)


@pytest.fixture(scope="module")
def images(parts):
    """A trained network that takes images."""
    model = train_target(parts.private, classes=10, seed=0, image_shape=(8, 8), epochs=5)
    return nn.Sequential(nn.Flatten(), model).eval()


def load(name, parts):
    return outside_target(str(name), parts, seed=2**40 + 1)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_files_answer_as_the_network_does(folder, parts, images):
    rows = parts.victims.inputs
    example = torch.rand(2, 1, 8, 8)
    torch.jit.trace(images, example).save(folder / "net.ts")
    batch = torch.export.Dim("batch")
    torch.export.save(
        torch.export.export(images, (example,), dynamic_shapes=({0: batch},)), folder / "net.pt2"
    )
    wanted = images(rows.reshape(-1, 1, 8, 8))
    for name in ("net.ts", "net.pt2"):
        torch.testing.assert_close(load(folder / name, parts)(rows), wanted)


def test_logits_and_probabilities_are_told_apart(folder, parts):
    rows = parts.victims.inputs
    for temperature in (1.0, 3.0):
        served = [
            serve(load(f"theirs:{name}", parts), rows, temperature=temperature)
            for name in ("logits", "probabilities")
        ]
        torch.testing.assert_close(*served)


def test_a_target_that_normalises_in_place_changes_no_image(folder, parts):
    rows = parts.victims.inputs.clone()
    target = load("theirs:inplace", parts)
    assert torch.equal(target(rows), target(rows))
    assert torch.equal(rows, parts.victims.inputs) and parts.defender.inputs.min() >= 0


def test_a_class_of_estimators_is_fitted_on_the_private_rows(folder, parts):
    target = load("theirs:Bayes", parts)
    assert accuracy(target, parts.private) > 0.7
    again = load("sklearn.ensemble:RandomForestClassifier", parts)
    other = load("sklearn.ensemble:RandomForestClassifier", parts)
    assert torch.equal(again(parts.victims.inputs), other(parts.victims.inputs))
    assert accuracy(again, parts.victims) > 0.8


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "theirs:seven",
            r"theirs:seven: expected 32 images to be answered with \[32, 10\] .* got \[32, 7\]",
        ),
        (
            "theirs:number",
            "expected theirs:number to be callable or to have predict_proba, got int",
        ),
        ("theirs:nothing", "expected theirs to have nothing"),
    ],
)
def test_what_is_no_classifier_is_refused(folder, parts, name, said):
    with pytest.raises(ValueError, match=said):
        load(name, parts)


def test_a_missing_file_is_told(folder, parts):
    with pytest.raises(FileNotFoundError, match=r"expected a file gone\.pt2"):
        load("gone.pt2", parts)


def test_ours_are_not_outside():
    assert not any(map(is_outside, ("mlp", "cnn", "wish", "mlp+vib:0.1")))
    assert all(map(is_outside, ("a:b", "net.ts", "folder/net.pt2", "a+b/net.pt")))


def test_a_whole_cell_runs(folder, tiny):
    soft = replace(tiny, target="sklearn.linear_model:LogisticRegression")
    assert run_cell(soft, 100, 3.0).numbers["target"]["accuracy"] > 0.8


def test_a_target_that_tells_its_label_alone_leaves_nothing_to_defend(folder, tiny):
    with pytest.raises(ValueError, match="nothing to defend here, or the adversary needs"):
        run_cell(replace(tiny, target="theirs:Bayes"), 100, 3.0)


@pytest.mark.parametrize(
    "change", [lambda p: 100 * p, lambda p: 0.98 * p, lambda p: p * (p > 0.1), lambda p: p.sqrt()]
)
def test_probabilities_whose_sums_are_not_one_are_no_logits(change):
    p = torch.softmax(torch.randn(32, 10, generator=torch.Generator().manual_seed(0)), 1)
    assert kind_of_scores(p) == "probabilities" and kind_of_scores(p.log()) == "logits"
    with pytest.raises(ValueError, match="look like probabilities"):
        kind_of_scores(change(p))
