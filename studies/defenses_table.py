"""Writes the numbers of docs/defenses.md: a line a family, a column a study."""

from __future__ import annotations

from typing import Any

from kept import TITLES

from mipoison.eval.report.markdown import mean_alone
from mipoison.eval.scores.frontier import budget_of

# Where docs/defenses.md shows numbers: the study, its temperature, and the budget.
SHOWN = (
    ("standard", "3", 0.1),
    ("study-mnist", "4", 0.1),
    ("study-mnist-confident", "1", 0.03),
    ("study-faces", "4", 0.1),
)


def in_numbers(studies: dict[str, dict[str, Any]]) -> str:
    """A line a family: g2 / g3 / median and the realised mean l1 in each study, and the cost on digits."""
    shown = [entry for entry in SHOWN if entry[0] in studies]
    heads = [f"{TITLES[name]}, T = {heat}, budget {budget:g}" for name, heat, budget in shown]
    found: dict[str, dict[str, str]] = {}
    costs: dict[str, str] = {}
    for name, temperature, budget in shown:
        kept = studies[name]
        for method in kept["configuration"]["methods"]:
            own = budget_of(method)
            if method["name"] == "none" or own not in (None, budget):
                continue
            title = method["name"] if own is None else method["family"]
            measured = kept["summary"][temperature]["defenses"][method["name"]]
            gains = " / ".join(
                mean_alone(measured[key])
                for key in ("standard.gain", "adaptive.gain", "adaptive.median")
            )
            found.setdefault(title, {})[name] = (
                f"{gains} ({measured['utility.l1_mean']['mean']:.3f})"
            )
            if name == "standard":
                fit, row = (
                    measured[f"cost.{key}"] for key in ("fit_seconds", "microseconds_per_row")
                )
                costs[title] = f"{fit['mean']:.1f} | {row['mean']:.0f}"
    lines = ["| defense | " + " | ".join(heads) + " | fit, s | µs a row |\n"]
    lines.append("|---" * (len(heads) + 3) + "|\n")
    for title, cells in found.items():
        row_of = " | ".join(cells.get(name, "–") for name, *_ in shown)
        lines.append(f"| {title} | {row_of} | {costs.get(title, '– | –')} |\n")
    made = studies["standard"]["environment"]
    lines.append(
        f"\nTimes: digits, T = 3, {made['processor']}, one thread, the other core at the same work, {made['date']}.\n"
    )
    return "".join(lines)
