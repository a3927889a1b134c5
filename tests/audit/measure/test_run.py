"""Parts are kept, and an interrupted audit goes on with them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from audited import METHODS, SHORT, TINY, audited, images

from mipoison.audit.measure import probe
from mipoison.audit.measure import run as running
from mipoison.audit.measure.run import Work, run
from mipoison.audit.measure.setting import Setting


def test_an_interrupted_audit_goes_on_where_it_was(tmp_path, monkeypatch):
    work = Work(images(), TINY, METHODS[1:], (100,), tmp_path)
    measured = []
    whole = running.measure_defense

    def interrupted(setting, networks, method, tick):
        if measured and not tmp_path.joinpath("on").exists():
            raise KeyboardInterrupt
        measured.append(method.name)
        return whole(setting, networks, method, tick)

    monkeypatch.setattr(running, "measure_defense", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(work, jobs=1)
    assert len(list(tmp_path.glob("*.npz"))) == 1 and not list(tmp_path.glob("*.partial"))
    (tmp_path / "on").touch()
    (_, found), *_ = run(work, jobs=1)
    assert measured == [METHODS[1].name, METHODS[2].name]
    # The same numbers as in one go.
    assert np.array_equal(found["rounding-1"].errors, audited().measured["rounding-1"].errors)
    # Parts of other data are not taken.
    other = replace(work, evidence=images(leaking=False))
    assert other.digest() != work.digest()
    other = replace(work, evidence=replace(work.evidence, image_shape=(2, 8, 1)))
    assert other.digest() != work.digest()


def test_a_defense_that_cannot_be_fitted_says_why():
    from mipoison.audit.measure.systems import measure_defense
    from mipoison.eval.presets import of_budget

    setting = Setting.of(images(), TINY, 100)
    told = measure_defense(setting, {}, of_budget("codebook", 1e-6), lambda: None)
    assert "raise the budget" in told.numbers["failed"] and told.budget == 1e-6


def test_progress_is_told_to_the_end():
    from mipoison.audit.measure.systems import measure_references

    setting, told = Setting.of(images(), TINY, 100), []
    measure_references(setting, lambda: told.append(1))
    assert len(told) == setting.steps


def test_the_time_is_estimated_from_what_is_begun():
    setting = Setting.of(images(), replace(TINY, adversary=replace(SHORT, epochs=4)), 100)
    once = probe.seconds(setting, METHODS[1:], seeds=1, jobs=1)
    assert 0 < once < 600
    assert probe.seconds(setting, METHODS[1:], seeds=3, jobs=1) > once
