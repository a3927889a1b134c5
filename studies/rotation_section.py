"""The table of docs/guides/keys.md: what `studies/rotation.py` measured."""

from __future__ import annotations

from csv_rows import read_rows
from rotation import BESIDE, FILE, MEAN, ONE, TEMPERATURE

from mipoison.eval.report.markdown import spread
from mipoison.eval.scores.summary import statistic

TITLES = {
    "lpa-equilibrium-l1-0.1": "LPA equilibrium, budget 0.1",
    "lpa-generator-l1-0.1": "LPA generator, budget 0.1",
    "lpa-direction-l1-0.1": "LPA direction, budget 0.1",
    "lfp-0.05": "LFP, rate 0.05",
    "laplace-0.1": "Laplace noise, mean l1 0.1",
}


def rotation_section() -> str:
    """The gains against one answer and against two; nothing where the study was not run."""
    rows = read_rows(FILE)
    if not rows:
        return ""
    seeds = sorted({int(row["seed"]) for row in rows})
    gains = {(row["defense"], row["seed"], row["answers"]): float(row["gain"]) for row in rows}

    def over_seeds(defense: str, *used: str) -> str:
        """The least of these gains of each seed."""
        least = [min(gains[defense, str(seed), answers] for answers in used) for seed in seeds]
        return spread(statistic(least))

    lines = [
        f"Digits, T = {TEMPERATURE:g}, seeds {', '.join(map(str, seeds))}; means and standard deviations "
        f"({rows[0]['date']}, {rows[0]['processor']}).\n\n",
        "| defense | one answer | mean of two | two side by side | strongest of the three |\n",
        "|---" * 5 + "|\n",
    ]
    for defense in dict.fromkeys(row["defense"] for row in rows):
        cells = [over_seeds(defense, answers) for answers in (ONE, MEAN, BESIDE)]
        cells.append(over_seeds(defense, ONE, MEAN, BESIDE))
        lines.append(f"| {TITLES[defense]} | {' | '.join(cells)} |\n")
    return "".join(lines)
