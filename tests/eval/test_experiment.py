"""Runs leave whole folders, and never replace one in silence."""

import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from tiny import untimed

from mipoison.eval import cli
from mipoison.eval.configuration import Configuration
from mipoison.eval.presets import LABEL_ONLY, NONE, QUICK, outside
from mipoison.eval.run import experiment
from mipoison.eval.run.experiment import run
from mipoison.eval.run.folder import prepare_folder
from mipoison.eval.run.merge import merge


def test_folder_holds_configuration_results_and_pictures(finished, tiny):
    configuration = json.loads((finished / "config.json").read_text())
    assert Configuration.from_json(configuration) == tiny
    results = json.loads((finished / "results.json").read_text())
    assert results["complete"] and len(results["cells"]) == 2
    assert results["environment"]["threads_per_process"] == 1
    assert results["environment"]["versions"]["torch"]
    assert (finished / "reconstructions.npz").exists()
    kept = {path.name.rsplit("-", 1)[0] for path in (finished / "cells").iterdir()}
    assert kept == {"seed100-T1_5", "seed100-T3"}


def test_a_run_of_another_experiment_is_never_replaced_in_silence(finished, tiny):
    before = (finished / "results.json").read_text()
    with pytest.raises(FileExistsError, match="--overwrite"):
        run(replace(tiny, target_epochs=4), finished)
    assert (finished / "results.json").read_text() == before


def test_a_finished_run_is_not_run_again(finished, tiny, monkeypatch, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    ran = counting(monkeypatch)
    assert run(tiny, out).complete and not ran
    assert untimed(out) == untimed(finished)


def test_more_seeds_keep_the_cells_that_are_there(finished, tiny, monkeypatch, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    ran = counting(monkeypatch)
    assert run(replace(tiny, seeds=(101, 100), temperatures=(3.0,)), out).complete
    assert ran == [(101, 3.0)]
    assert [cell["seed"] for cell in untimed(out)] == [101, 100]
    assert untimed(out)[1] == untimed(finished)[1]


def test_overwriting_leaves_foreign_files_alone(finished, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    mine = [out / name for name in ("notes.txt", "cells/data.npz", "figures/paper.png")]
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    prepare_folder(out, QUICK, overwrite=True)
    left = [path for path in out.rglob("*") if path.is_file()]
    assert sorted(left) == sorted([*mine, out / "config.json"])


@pytest.mark.parametrize("name", ["config.json", "summary.md", "figures/victims-T1.png"])
def test_what_no_run_left_there_is_not_overwritten(name, tmp_path):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(FileExistsError, match=f"{tmp_path / name} is of none"):
        prepare_folder(tmp_path, QUICK, overwrite=True)
    assert (tmp_path / name).read_text() == "mine"


def test_a_run_of_another_version_can_be_overwritten(finished, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    plain = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps(plain | {"wish": 1}))
    with pytest.raises(FileExistsError, match="holds something else"):
        prepare_folder(out, QUICK)
    with pytest.raises(ValueError, match=r"to be the configuration of a run, got .*wish"):
        merge((finished, out), tmp_path / "both")
    prepare_folder(out, QUICK, overwrite=True)
    assert not (out / "results.json").exists()


def test_what_a_killed_process_began_is_in_nobodys_way(tmp_path):
    (tmp_path / ".config.json.12.partial").write_text("{")
    prepare_folder(tmp_path, QUICK)
    assert (tmp_path / "config.json").exists()


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(FileExistsError, match="is a file"):
        prepare_folder(tmp_path / "out", QUICK, overwrite=True)


def test_an_interrupted_run_goes_on(tiny, finished, tmp_path, monkeypatch):
    whole = experiment.run_cell

    def interrupted(configuration, seed, temperature, *, tick):
        if temperature == 3.0:
            raise KeyboardInterrupt
        return whole(configuration, seed, temperature, tick=tick)

    with monkeypatch.context() as patch:
        patch.setattr(experiment, "run_cell", interrupted)
        assert not run(tiny, tmp_path / "out").complete
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert not results["complete"] and results["cells_finished"] == 1
    assert [cell["temperature"] for cell in results["cells"]] == [1.5]
    ran = counting(monkeypatch)
    assert run(tiny, tmp_path / "out").complete and ran == [(100, 3.0)]
    assert untimed(tmp_path / "out") == untimed(finished)


@pytest.mark.full  # (With --full the finished run, too, trains as its other process does.)
def test_a_killed_run_loses_at_most_the_cell_under_way(tiny, finished, tmp_path):
    out, plain = tmp_path / "out", tmp_path / "plain.json"
    plain.write_text(json.dumps(tiny.to_json()))
    program = f"""
import json, pathlib, torch
from mipoison.eval.configuration import Configuration
from mipoison.eval.run.experiment import run
torch.set_num_threads(1)
if __name__ == "__main__":
    plain = json.loads(pathlib.Path({str(plain)!r}).read_text())
    run(Configuration.from_json(plain), pathlib.Path({str(out)!r}))
"""
    # Once as soon as a cell is kept, and once more on the way to the next.
    for wait in (lambda: list(out.glob("cells/*.json")), lambda: time.sleep(0.5) or True):
        process = subprocess.Popen([sys.executable, "-c", program])
        while process.poll() is None and not wait():
            time.sleep(0.01)
        process.kill()
        process.wait()
        assert list(out.glob("cells/seed100-T1_5-*.json"))
    assert run(tiny, out).complete
    assert untimed(out) == untimed(finished)


def assert_one_is_told(outcome, out, name, said, *, left):
    """One cell failed, with a word on why, and the other one finished."""
    assert not outcome.complete and list(outcome.failed) == [name]
    assert said in outcome.failed[name]
    results = json.loads((out / "results.json").read_text())
    assert results["failed"] == outcome.failed
    assert [cell["temperature"] for cell in results["cells"]] == [left]


def test_a_cell_that_fails_is_told_and_the_rest_goes_on(tiny, tmp_path, monkeypatch):
    whole = experiment.run_cell

    def failing(configuration, seed, temperature, *, tick):
        if temperature == 1.5:
            raise RuntimeError("no such luck")
        return whole(configuration, seed, temperature, tick=tick)

    monkeypatch.setattr(experiment, "run_cell", failing)
    outcome = run(tiny, tmp_path / "out")
    assert_one_is_told(outcome, tmp_path / "out", "seed100-T1_5", "no such luck", left=3.0)


@pytest.fixture
def working(tmp_path, monkeypatch):
    """A working folder, where modules are looked for."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


@pytest.mark.full
def test_a_process_that_dies_takes_no_other_cell_along(tiny, working):
    (working / "deadly.py").write_text(
        "import os\ndef die(p):\n    if p.amax(1).mean() > 0.9: os._exit(3)\n    return p\n"
    )
    methods = (NONE, LABEL_ONLY, outside("deadly:die"))
    sharp_and_not = replace(tiny, methods=methods, temperatures=(0.01, 5.0))
    outcome = run(sharp_and_not, working / "out", jobs=2)
    assert_one_is_told(outcome, working / "out", "seed100-T0_01", "died", left=5.0)


def test_a_changed_defense_is_not_taken_for_the_one_that_was_run(tiny, working):
    own = working / "plain_defense.py"
    own.write_text("def plain(p): return p\n")
    chosen = replace(
        tiny, methods=(NONE, LABEL_ONLY, outside("plain_defense:plain")), temperatures=(3.0,)
    )
    assert run(chosen, working / "out").complete
    before = (working / "out" / "results.json").read_text()
    assert json.loads(before)["named_files"].keys() == {"plain_defense:plain"}
    assert run(chosen, working / "out").complete
    own.write_text("def plain(p): return p.flip(0)\n")
    with pytest.raises(FileExistsError, match="with other content of plain_defense:plain"):
        run(chosen, working / "out")
    assert (working / "out" / "results.json").read_text() == before


@pytest.mark.full
def test_runs_of_other_seeds_and_temperatures_are_merged(tiny, finished, tmp_path):
    halves = {tmp_path / "first": (1.5, "T3"), tmp_path / "second": (3.0, "T1_5")}
    for half, (temperature, other) in halves.items():
        shutil.copytree(finished, half)
        for path in half.glob(f"cells/seed100-{other}-*"):
            path.unlink()
        assert run(replace(tiny, temperatures=(temperature,)), half).complete
        assert len(list(half.glob("cells/*.json"))) == len(untimed(half)) == 1
    cli.main(["report", *map(str, halves), "--out", str(tmp_path / "both")])
    assert untimed(tmp_path / "both") == untimed(finished)
    assert (tmp_path / "both" / "report.html").exists()


def test_runs_of_other_experiments_are_not_merged(tiny, finished, tmp_path):
    assert run(replace(tiny, target_epochs=4, temperatures=(3.0,)), tmp_path / "other").complete
    with pytest.raises(ValueError, match="other is of another one"):
        merge((finished, tmp_path / "other"), tmp_path / "both")
    with pytest.raises(FileExistsError, match="expected a new folder"):
        merge((finished, finished), finished)
    with pytest.raises(FileNotFoundError, match=r"config\.json in .*nowhere"):
        merge((finished, tmp_path / "nowhere"), tmp_path / "both")
    with pytest.raises(ValueError, match="expected each cell in one run, got seed100"):
        merge((finished, finished), tmp_path / "both")
    assert not (tmp_path / "both").exists()


def test_an_engine_that_is_not_installed_says_what_to_do(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match="pip install 'ray'"):
        run(tiny, tmp_path / "out", engine="ray")
    with pytest.raises(ValueError, match="expected one of loky, ray, dask, got 'wish'"):
        run(tiny, tmp_path / "out", engine="wish")
    assert not (tmp_path / "out").exists()


def test_jobs_must_be_positive(tiny, tmp_path):
    with pytest.raises(ValueError, match="jobs: expected at least 1, got 0"):
        run(tiny, tmp_path / "out", jobs=0)
    assert not (tmp_path / "out").exists()


def counting(monkeypatch):
    """The cells that are run from now on."""
    whole, ran = experiment.run_cell, []

    def counted(configuration, seed, temperature, *, tick):
        ran.append((seed, temperature))
        return whole(configuration, seed, temperature, tick=tick)

    monkeypatch.setattr(experiment, "run_cell", counted)
    return ran
