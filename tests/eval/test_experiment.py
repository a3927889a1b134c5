"""Runs leave whole folders, and never replace one in silence."""

import json

import pytest

from mipoison.eval import experiment
from mipoison.eval.configuration import Configuration
from mipoison.eval.experiment import prepare_folder, run


def test_folder_holds_configuration_results_and_pictures(finished, tiny):
    configuration = json.loads((finished / "config.json").read_text())
    assert Configuration.from_json(configuration) == tiny
    results = json.loads((finished / "results.json").read_text())
    assert results["complete"] and len(results["cells"]) == 2
    assert results["environment"]["threads_per_process"] == 1
    assert results["environment"]["versions"]["torch"]
    assert (finished / "reconstructions.npz").exists()
    assert not (finished / "cells").exists()


def test_an_existing_folder_is_never_replaced_in_silence(finished, tiny):
    before = (finished / "results.json").read_text()
    with pytest.raises(FileExistsError, match="--overwrite"):
        run(tiny, finished)
    assert (finished / "results.json").read_text() == before


def test_overwriting_leaves_foreign_files_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "results.json").write_text("{}")
    prepare_folder(tmp_path, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(FileExistsError, match="is a file"):
        prepare_folder(tmp_path / "out", overwrite=True)


def test_interruption_keeps_the_finished_cells(tiny, tmp_path, monkeypatch):
    whole = experiment.run_cell

    def interrupted(configuration, seed, temperature, *, tick):
        if temperature == 3.0:
            raise KeyboardInterrupt
        return whole(configuration, seed, temperature, tick=tick)

    monkeypatch.setattr(experiment, "run_cell", interrupted)
    assert not run(tiny, tmp_path / "out")
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert not results["complete"] and results["cells_finished"] == 1
    assert [cell["temperature"] for cell in results["cells"]] == [1.5]


def test_processes_do_not_change_the_numbers(tiny, finished, tmp_path):
    assert run(tiny, tmp_path / "out", jobs=2)
    alone = json.loads((finished / "results.json").read_text())
    shared = json.loads((tmp_path / "out" / "results.json").read_text())
    for one, other in zip(alone["cells"], shared["cells"], strict=True):
        for name, defense in one["defenses"].items():
            assert defense["variants"] == other["defenses"][name]["variants"]


def test_jobs_must_be_positive(tiny, tmp_path):
    with pytest.raises(ValueError, match="jobs: expected a number >= 1, got 0"):
        run(tiny, tmp_path / "out", jobs=0)
    assert not (tmp_path / "out").exists()
