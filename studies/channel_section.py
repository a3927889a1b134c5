"""Says what any answers could hide in a setting: a sentence of the page of results."""

from __future__ import annotations

from statistics import fmean

from channel import FILE
from csv_rows import read_rows


def bound_sentence(study: str, temperature: str) -> str:
    """The bounds of a study's setting, means over seeds; nothing where they were not computed."""
    rows = [
        row
        for row in read_rows(FILE)
        if row["study"] == study and float(row["temperature"]) == float(temperature)
    ]
    if not rows:
        return ""
    budgets = sorted({float(row["l1"]) for row in rows})
    bounds = [
        fmean(float(row["bound"]) for row in rows if float(row["l1"]) == budget)
        for budget in budgets
    ]
    return (
        f" At {_listed(budgets)} no answers with vectors of the label's rows gain more than "
        f"{', '.join(f'{bound:.2f}' for bound in bounds)} under an adversary who knows which row gets which "
        "([decision 25](decisions/0025-what-any-answers-could-hide.md))."
    )


def _listed(budgets: list[float]) -> str:
    return ", ".join(f"{budget:g}" for budget in budgets)
