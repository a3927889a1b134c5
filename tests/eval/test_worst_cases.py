"""Worst cases: copies and other keys reach the deployed defense, and a defense without a key of its own is refused."""

from dataclasses import replace

import pytest

from mipoison.defenses.lpa.cells import GRID
from mipoison.eval.presets import QUICK, of_budget, rounding
from mipoison.eval.worst_cases import WorstCases, worst_cases

CASES = WorstCases(copies=(1, 2), grids=(0.5,), grid_copies=(2,), draws=1, altered=1)
SHORT = replace(QUICK, adversary=replace(QUICK.adversary, epochs=2, wide_epochs=2))


def test_every_case_is_measured_and_repeats():
    first, again = (worst_cases(SHORT, of_budget("generator", 0.1), 100, CASES) for _ in range(2))
    assert first == again
    assert list(first["copies"]) == ["1", "2"] and list(first["grids"]) == ["0.5"]
    assert first["own_grid"] == GRID and first["copies"]["2"] != first["grids"]["0.5"]["2"]
    assert len({first["other_keys"], first["key_leaked"], first["copies"]["1"]}) == 3


@pytest.mark.parametrize("method", [rounding(1), of_budget("decoy", 0.1)])
def test_defenses_without_a_grid_are_refused(method):
    with pytest.raises(TypeError, match=r"expected (LPA|the objective equilibrium)"):
        worst_cases(SHORT, method, 100, CASES)
