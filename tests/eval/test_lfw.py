"""Labeled Faces in the Wild: nobody is in two roles, logits stay with their rows, mistakes are told in one line."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import demo
import face_files
import numpy as np
import pytest
import torch

from mipoison.eval.configuration import Configuration
from mipoison.eval.data.catalogue import describe, may_be_shown
from mipoison.eval.data.lfw import COPIES
from mipoison.eval.data.loading import split
from mipoison.eval.presets import LFW
from mipoison.eval.report.report import write_report
from mipoison.eval.report.results_file import read_results
from mipoison.eval.run import experiment
from mipoison.eval.run.cell import run_cell
from mipoison.eval.run.folder import named_files


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return face_files.write(tmp_path_factory.mktemp("lfw"))


@pytest.fixture(scope="module")
def arrays(folder):
    with (
        np.load(folder / "lfw-faces.npz") as photographs,
        np.load(folder / "lfw-imagenet-logits.npz") as answers,
    ):
        return photographs["x"], photographs["person"], answers["logits"]


@pytest.fixture(scope="module")
def parts(folder):
    return split(f"lfw:{folder}", seed=100)


def everyone(parts):
    return {name: getattr(parts, name) for name in ("private", "defender", "auxiliary", "victims")}


def test_nobody_is_in_two_roles(parts, arrays):
    person = arrays[1]
    shown = {name: set(person[role.rows].tolist()) for name, role in everyone(parts).items()}
    assert shown["private"] == shown["victims"] and len(shown["private"]) == face_files.PRIVATE
    assert not shown["defender"] & shown["auxiliary"]
    assert not shown["private"] & (shown["defender"] | shown["auxiliary"])
    rows = torch.cat([role.rows.unique() for role in everyone(parts).values()])
    assert len(rows.unique()) == len(rows)
    # Held-out rows are the last: of people whom those before do not show, but for one whom the cut divides.
    auxiliary = person[parts.auxiliary.rows]
    assert len(set(auxiliary[:-30].tolist()) & set(auxiliary[-30:].tolist())) <= 1


def test_sizes_are_shares_of_what_there_is(parts):
    assert [len(role) for role in everyone(parts).values()] == [96 * COPIES, 40, 102, 48]
    counts = parts.victims.labels.bincount()
    assert len(counts) == face_files.PRIVATE and 7 <= int(counts.min()) <= int(counts.max()) <= 9


def test_labels_are_private_people_alone(parts, arrays):
    person = arrays[1]
    for role in (parts.private, parts.victims):
        pairs = set(zip(person[role.rows].tolist(), role.labels.tolist(), strict=True))
        assert pairs == {(3 * label, label) for label in range(face_files.PRIVATE)}
    assert parts.classes == face_files.PRIVATE
    assert bool((parts.defender.labels == -1).all() and (parts.auxiliary.labels == -1).all())


def test_logits_stay_with_their_rows_and_pixels_with_both(parts, arrays):
    x, _, logits = arrays
    for role in (parts.defender, parts.auxiliary, parts.victims):
        assert torch.equal(role.logits, torch.from_numpy(logits).float()[role.rows])
        assert torch.equal(role.inputs, torch.from_numpy(x)[role.rows].flatten(1).float() / 255)
    # Altered copies were never answered.
    assert parts.private.logits is None and not parts.auxiliary_known


def test_a_seed_is_a_division(folder, parts):
    again, other = (split(f"lfw:{folder}", seed=seed) for seed in (100, 101))
    for name, role in everyone(parts).items():
        assert torch.equal(role.inputs, getattr(again, name).inputs), name
        assert not torch.equal(role.rows, getattr(other, name).rows), name


def test_both_sizes_show_the_same_rows(tmp_path):
    face_files.write(tmp_path, side=48)
    small, large = (split(f"{kind}:{tmp_path}", seed=100).victims for kind in ("lfw", "lfw-48"))
    assert torch.equal(small.rows, large.rows)
    assert small.inputs.shape[1] == 32 * 32 and large.inputs.shape[1] == 48 * 48
    assert torch.allclose(small.inputs.mean(1), large.inputs.mean(1), atol=0.01)


@pytest.fixture(scope="module")
def stored(folder, tiny, tmp_path_factory):
    """A finished run of the stored logits, and its folder."""
    configuration = replace(
        tiny,
        dataset=f"lfw:{folder}",
        target="stored",
        temperatures=(2.0,),
        adversary=replace(tiny.adversary, held_out=30, epochs=6, wide_epochs=6),
    )
    out = tmp_path_factory.mktemp("stored") / "out"
    outcome = experiment.run(configuration, out)
    assert outcome.complete, outcome.failed
    write_report(out)
    return out, configuration


@pytest.mark.full
def test_accuracy_of_stored_answers_is_a_dash(stored):
    out, _ = stored
    results = read_results(out / "results.json")
    cell = results["cells"][0]
    assert cell["target"]["accuracy"] is cell["target"]["private_accuracy"] is None
    measured = cell["defenses"]["rounding-1"]["utility"]
    assert measured["accuracy"] is measured["ece"] is measured["accepted_accuracy"] is None
    assert measured["l1_mean"] > 0 and measured["labels_changed"] == 0
    # Who is in the picture is known, though not by the classifier that is served.
    assert 0 <= cell["defenses"]["none"]["attacks"]["adaptive"]["identity"] <= 1
    assert cell["target"]["evaluator_accuracy"] > 1 / face_files.PRIVATE
    assert "; accuracy –." in (out / "summary.md").read_text()
    page = (out / "report.html").read_text()
    assert "its accuracy is not known" in page


@pytest.mark.full
def test_the_certificate_is_of_victims_alone(stored):
    cell = read_results(stored[0] / "results.json")["cells"][0]
    assert cell["defenses"]["label-only"]["certificate"]["rows"] == 48


@pytest.mark.full
def test_pictures_are_of_the_first_victim_of_each_person(stored):
    with np.load(stored[0] / "reconstructions.npz") as images:
        assert images["seed100-T2/originals"].shape == (face_files.PRIVATE, 32, 32)


def test_docs_never_take_the_pictures(finished, tmp_path, monkeypatch):
    """Photographs of people, and reconstructions of them, stay out of the repository."""
    scripts = Path(demo.__file__).parent.glob("*.py")
    assert [path.name for path in scripts if "reconstructions.npz" in path.read_text()] == [
        "demo.py"
    ]
    run = shutil.copytree(finished, tmp_path / "run")
    results = json.loads((run / "results.json").read_text())
    results["configuration"]["dataset"] = "lfw:a"
    (run / "results.json").write_text(json.dumps(results))
    monkeypatch.setattr(demo.leaderboard, "add", lambda *given: pytest.fail("kept"))
    monkeypatch.setattr(demo, "save_small", lambda *given: pytest.fail("drawn"))
    with pytest.raises(SystemExit, match="may show people"):
        demo.keep(run)
    unseen = ("lfw:a", "lfw-48:a", "orl", "orl-64", "npz:digits", "folder:mnist", "torchvision:A")
    assert not any(map(may_be_shown, unseen))


@pytest.mark.full
def test_an_identity_classifier_is_trained_on_the_private_people(folder, tiny):
    configuration = replace(
        tiny,
        dataset=f"lfw:{folder}",
        target="cnn",
        adversary=replace(tiny.adversary, held_out=30, epochs=6, wide_epochs=6),
    )
    numbers = run_cell(configuration, 100, 2.0).numbers
    assert numbers["target"]["accuracy"] > 0.5
    bare = numbers["defenses"]["none"]["utility"]
    assert bare["accuracy"] == pytest.approx(numbers["target"]["accuracy"])
    assert bare["ece"] is not None


def test_changed_files_are_noticed(folder):
    configuration = replace(LFW, dataset=f"lfw-48:{folder}")
    assert {name.rpartition("/")[2] for name in named_files(configuration)} == {
        "lfw-faces.npz",
        "lfw-imagenet-logits.npz",
    }


def test_stored_answers_are_asked_once():
    with pytest.raises(ValueError, match=r"expected none for the target 'stored'.*are not stored"):
        replace(LFW, worst_case_methods=("laplace-0.1",))


def test_description_and_configuration_survive_json():
    assert describe("lfw-48:/home/me/faces").startswith("Labeled Faces in the Wild")
    assert "48×48" in describe("lfw-48:/home/me/faces") and "/home" not in describe("lfw:/home/a")
    assert Configuration.from_json(LFW.to_json()) == LFW


def evaluated(folder, *given):
    few = ["--adversary.held-out", "30", "--jobs", "1"]
    return ["evaluate", "--preset", "lfw", "--dataset", f"lfw:{folder}", *few, *given]


def broken(tmp_path, **changed):
    face_files.write(tmp_path)
    with np.load(tmp_path / "lfw-faces.npz") as arrays:
        np.savez(tmp_path / "lfw-faces.npz", **(dict(arrays) | changed))
    return tmp_path


def test_a_missing_folder_is_one_line(one_line, tmp_path):
    told = one_line([*evaluated(tmp_path / "gone"), "--out", str(tmp_path / "out")])
    assert "expected a folder with lfw-faces.npz, found none" in told
    assert "vis-www.cs.umass.edu/lfw" in told and "docs/guides/faces.md" in told


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"x": np.zeros((4, 16, 16), np.uint8)},
            "expected x of uint8 [N, S, S] with S at least 32",
        ),
        ({"x": np.zeros((4, 32, 32))}, "got float64 [4, 32, 32]"),
        (
            {"person": np.zeros(3, np.int16)},
            "expected person of whole numbers [348], got int16 [3]",
        ),
        ({"person": np.arange(348)}, "expected at least 2 people with 20 photographs or more"),
        ({"person": np.array(["a"] * 348, object)}, "no objects"),
    ],
)
def test_wrong_arrays_are_one_line(changed, said, one_line, tmp_path):
    told = one_line([*evaluated(broken(tmp_path, **changed)), "--out", str(tmp_path / "out")])
    assert said in told


@pytest.mark.parametrize(
    ("logits", "said"),
    [
        (np.zeros((3, 30), np.float16), "expected logits of numbers [348, K]"),
        (np.full((348, 30), np.nan), "expected logits to be finite, got 348 other rows"),
        (None, "--target: expected a data set that stores a classifier's answers for 'stored'"),
    ],
)
def test_wrong_logits_are_one_line(logits, said, one_line, tmp_path):
    face_files.write(tmp_path, logits=False)
    if logits is not None:
        np.savez(tmp_path / "lfw-imagenet-logits.npz", logits=logits)
    assert said in one_line([*evaluated(tmp_path), "--out", str(tmp_path / "out")])


def test_other_people_cannot_be_asked_for_twice(folder, one_line, tmp_path):
    told = one_line([*evaluated(folder, "--auxiliary", "other"), "--out", str(tmp_path / "out")])
    assert "auxiliary: expected rows with classes for 'other', got auxiliary rows of other" in told
