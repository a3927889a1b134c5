"""Say in sentences what a run found: what leaks without a defense, and what hides most of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mipoison.eval.scores.frontier import at_equal_l1, budgets_of, strongest_variant


def leak(group: Mapping[str, Any]) -> str:
    """Says how much better than from the label the strongest adversary reconstructs without a defense."""
    bare, label = (
        float(measured["mean"])
        for measured in (group["defenses"]["none"]["adaptive.mse"], group["floors"]["label_only"])
    )
    return (
        f"Without a defense, the strongest adversary reconstructs a victim from one vector with {1 - bare / label:.0%} "
        f"less error than from the label alone (MSE {bare:.4f} against {label:.4f}; "
        f"{strongest_variant(group['defenses']['none'])})."
    )


def ahead(group: Mapping[str, Any], methods: Sequence[Mapping[str, Any]]) -> list[str]:
    """Says which two families hide most at each mean l1 where two can be compared; one short text each."""
    curves = at_equal_l1(group, methods)
    said = []
    for budget in budgets_of(methods):
        at = {
            family: value
            for family, curve in curves.items()
            # (The label alone is the ceiling, not a rival.)
            if (value := curve[budget]) is not None and family != "label-only"
        }
        if len(at) > 1:
            first, second = sorted(at, key=lambda family: -at[family])[:2]
            said.append(
                f"At a mean l1 of {budget:g}, {first} hides {at[first]:.0%} of that (g3 {at[first]:.2f}), "
                f"and {second}, the next, {at[second]:.0%}."
            )
    return said
