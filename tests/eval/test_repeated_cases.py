"""Worst cases: copies and other keys reach the deployed defense, and cell widths are asked of those that have them."""

from dataclasses import replace

import pytest
import torch
from later import later

from mipoison.defenses.lpa.key_cells import GRID
from mipoison.eval.adversaries.repeated import WorstCases, grid_of, simulated_draws, worst_cases
from mipoison.eval.presets import QUICK, of_budget, rounding, swept
from mipoison.eval.run.cell import deployment, prepare, run_cell

CASES = WorstCases(copies=(1, 2), grids=(0.5,), grid_copies=(2,), draws=1, altered=1)
SHORT = replace(QUICK, adversary=replace(QUICK.adversary, epochs=2, wide_epochs=2))


@pytest.fixture(scope="module")
def setup():
    return prepare(SHORT, 100)


def tried(setup, method, cases, times=1):
    defense = setup.defense(method, setup.served(setup.parts.defender, temperature=3.0))
    target = deployment(setup, method, defense, temperature=3.0, adversary=SHORT.adversary)
    return defense, *(worst_cases(target, cases) for _ in range(times))


def test_every_case_is_measured_and_repeats(setup):
    defense, first, again = tried(setup, of_budget("generator", 0.1), CASES, times=2)
    assert first == again
    assert list(first["copies"]) == ["1", "2"] and list(first["grids"]) == ["0.5"]
    assert grid_of(defense) == GRID and first["copies"]["2"] != first["grids"]["0.5"]["2"]
    assert len({first["other_keys"], first["key_leaked"], first["copies"]["1"]}) == 3


@pytest.mark.parametrize("method", [rounding(1), *later(of_budget("decoy", 0.1))])
def test_cell_widths_are_refused_where_there_are_none(setup, method):
    with pytest.raises(TypeError, match="grids: expected LPA with objective equilibrium"):
        tried(setup, method, CASES)


def test_any_keyed_defense_is_tried_and_its_other_keys_are_other_keys(setup):
    cases = replace(CASES, grids=())
    assert tried(setup, swept("laplace", 0.1), cases)[1]["grids"] == {}


@pytest.mark.parametrize("method", [swept("laplace", 0.1), *later(of_budget("decoy", 0.1))])
def test_simulated_answers_are_drawn_under_keys_of_their_own(setup, method, monkeypatch):
    """And those of who holds the key under the deployment's, of other rows."""
    simulated = []

    def watched(build, clean, queries, *given, **options):
        simulated.append((build, clean, queries))
        return simulated_draws(build, clean, queries, *given, **options)

    monkeypatch.setattr("mipoison.eval.adversaries.repeated.simulated_draws", watched)
    defense, _ = tried(setup, method, replace(CASES, grids=()))
    (other_keys, clean, queries), (altered, _, _) = simulated
    assert torch.equal(queries, defense(clean))
    first, second, again = (other_keys(key)(clean) for key in (1, 2, 1))
    assert torch.equal(first, again)
    for left, right in ((first, second), (first, queries), (altered(1)(clean), queries)):
        assert (left != right).any(1).double().mean() > 0.9


@pytest.mark.full
def test_a_cell_tries_those_that_its_configuration_names():
    configuration = replace(SHORT, worst_case_methods=("rounding-1",)).with_methods(("rounding-1",))
    numbers = run_cell(configuration, 100, 3.0).numbers
    assert list(numbers["worst_cases"]) == ["rounding-1"]
    once = numbers["worst_cases"]["rounding-1"]["copies"]["1"]
    # Asked once it is the attack that the cell makes anyway, beside other systems.
    assert once == pytest.approx(numbers["defenses"]["rounding-1"]["attacks"]["adaptive"]["gain"])
