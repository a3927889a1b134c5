"""Writes docs/results.md, its pictures, and the numbers of docs/defenses.md and four guides, out of `studies/numbers`.

python studies/results_page.py
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from certified_section import certified_section
from channel_section import bound_sentence
from defenses_table import in_numbers
from kept import TITLES, made, missing, older, studies_kept
from keys_section import draw_keys
from matplotlib.figure import Figure
from people_section import people_section
from PIL import Image
from rotation_section import rotation_section
from serve_section import serve_section
from unlike_section import unlike_section

from mipoison.eval.report.figures import own_style, privacy_utility
from mipoison.eval.report.glossary import as_markdown
from mipoison.eval.report.markdown import described, mean_alone, spread
from mipoison.eval.scores.frontier import budget_of, strongest_variant

DOCS = Path(__file__).parents[1] / "docs"
PAGE, PICTURES = DOCS / "results.md", DOCS / "results"
# The settings, their temperatures, and the two budgets of each table.
SHOWN = (
    ("standard", "3", (0.05, 0.1)),
    ("standard", "1", (0.05, 0.1)),
    ("study-mnist", "4", (0.05, 0.1)),
    ("study-mnist-confident", "1", (0.01, 0.03)),
    ("study-faces", "4", (0.05, 0.1)),
    ("study-faces-confident", "1", (0.01, 0.03)),
    ("study-lfw-imagenet", "1", (0.1, 0.2)),
)
# A family that moves farther than this share of a budget is not compared at it.
_FAR = 1.2
# So many objectives of LPA, and other families, are in each table; the rest stand in a sentence and the long tables.
OURS, OTHERS = 3, 3
# What the other studies are read for, and the settings that they stand beside.
# Older runs have the equilibrium, which "auto" keeps there.
ELSEWHERE = {
    "LPA, the default": ("lpa-auto-l1-0.1", "lpa-equilibrium-l1-0.1"),
    "LPA generator": ("lpa-generator-l1-0.1",),
    "Laplace noise": ("laplace-0.1",),
    "High confidence": ("high_confidence-0.1",),
}
HEAD = f"""# The defenses compared

Every defense at equal mean l1, under adversaries who train on defended vectors. `python studies/results_page.py` writes
this page from the CSV files in `studies/numbers`; `make study` measures them anew (hours). The documentation that
`make docs-site` builds has the long tables too. Means over seeds 0-2; nothing was tuned on them.

{as_markdown("gain", "g2", "g3", "median", "l1", "a dash")}"""


def write() -> None:
    """Writes the page, its pictures, and the numbers of docs/defenses.md and the guides."""
    studies = studies_kept()
    PICTURES.mkdir(exist_ok=True)
    sections = [f"\n**Not run yet:** {', '.join(lacking)}.\n"] if (lacking := missing()) else []
    if past := older():
        sections.append(
            f"\n**Older than the code:** {', '.join(past)} were run with other settings than today's. Where the study "
            "that they belong to was run anew since, their numbers are left out.\n"
        )
    for name, temperature, budgets in SHOWN:
        if name not in studies:
            continue
        picture = f"{name.removeprefix('study-')}-T{temperature}.png"
        draw(studies[name], temperature, PICTURES / picture)
        sections.append(setting(name, studies[name], temperature, budgets, picture))
    sections.append(elsewhere(studies))
    draw_keys(PICTURES / "keys.png")
    sections.append(
        "\nWhat averaging the answers to altered copies of a query wins back, at the budget 0.1 on the digits:\n\n"
        "![g3 against the number of averaged copies](results/keys.png)\n"
    )
    sections.append(people_section())
    PAGE.write_text(HEAD + "".join(sections))
    marks = "<!-- numbers: studies/results_page.py -->", "<!-- end -->"
    write_between(DOCS / "defenses.md", *marks, in_numbers(studies))
    write_between(DOCS / "guides" / "certificates.md", *marks, certified_section())
    write_between(DOCS / "guides" / "keys.md", *marks, rotation_section())
    write_between(DOCS / "guides" / "operate.md", *marks, serve_section())
    write_between(DOCS / "guides" / "watch-the-traffic.md", *marks, unlike_section())


def setting(
    name: str,
    kept: Mapping[str, Any],
    temperature: str,
    budgets: tuple[float, float],
    picture: str,
) -> str:
    """A setting: its conditions, the families at two budgets, the rest in a sentence, the curves."""
    part = kept["summary"][temperature]
    methods, bare = kept["configuration"]["methods"], part["defenses"]["none"]
    errors = [bare["standard.mse"], bare["adaptive.mse"], part["floors"]["label_only"]]
    undefended, strongest, label = (f"{error['mean']:.4f}" for error in errors)
    by_family: dict[str, dict[float, Mapping[str, Any]]] = {}
    for method in methods:
        budget = budget_of(method)
        if budget in budgets:
            measured = part["defenses"][method["name"]]
            by_family.setdefault(method["family"], {})[budget] = measured

    def farther(family: str) -> bool:
        """Whether it moves answers so much farther than the budgets that it is not compared at them."""
        return any(
            measured["utility.l1_mean"]["mean"] > _FAR * budget
            for budget, measured in by_family[family].items()
        )

    def last(family: str) -> Mapping[str, Any]:
        """What it gains at the larger budget that it has."""
        gained: Mapping[str, Any] = by_family[family][max(by_family[family])]["adaptive.gain"]
        return gained

    by_gain = sorted(by_family, key=lambda family: -last(family)["mean"])
    ranked = [family for family in by_gain if not farther(family)]
    ours = [family for family in ranked if family.startswith("LPA")][:OURS]
    others = [family for family in ranked if not family.startswith("LPA")][:OTHERS]
    rows = "".join(
        f"| {family} | {' | '.join(cells(by_family[family].get(budget)) for budget in budgets)} |\n"
        for family in ranked
        if family in (*ours, *others)
    )
    behind = ", ".join(
        f"{family} {mean_alone(last(family))}"
        for family in ranked
        if family not in (*ours, *others)
    )
    behind = f"Others near {budgets[1]:g}, g3: {behind}. " if behind else ""
    beyond = ", ".join(
        f"{family} {mean_alone(measured['adaptive.gain'])} ({measured['utility.l1_mean']['mean']:.3f})"
        for family in by_gain
        if farther(family)
        for measured in by_family[family].values()
    )
    behind += f"Moved more than a fifth farther, g3 (l1): {beyond}. " if beyond else ""
    heads = " | ".join(
        f"l1 near {budget:g}: realised | g2 | g3 | median | strongest" for budget in budgets
    )
    rest = ", ".join(
        f"{method['name']} {mean_alone(part['defenses'][method['name']]['adaptive.gain'])} "
        f"({part['defenses'][method['name']]['utility.l1_mean']['mean']:.3f})"
        for method in methods
        if budget_of(method) is None and method["name"] != "none"
    )
    return (
        f"\n## {TITLES[name]}, T = {temperature}\n\n"
        f"{described(kept['configuration'])}. Target {kept['configuration']['target']}, accuracy "
        f"{mean_of(part['target']['accuracy'], 3)}. Undefended MSE {undefended} (standard adversary), {strongest} "
        f"(adaptive); label only {label}. {made(kept['environment'])}.\n\n"
        f"| defense | {heads} |\n{'|---' * 11}|\n{rows}\n"
        f"{behind}Without a budget, g3 (l1): {rest}.{bound_sentence(name, temperature)}\n\n"
        f"![{TITLES[name]}, T = {temperature}: gain against mean l1](results/{picture})\n"
    )


def mean_of(statistic: Mapping[str, Any], digits: int) -> str:
    """The mean with so many digits, and a dash where there is none."""
    return spread({"mean": statistic["mean"], "sd": None}, digits)


def cells(measured: Mapping[str, Any] | None) -> str:
    """Realised l1, three gains, and the strongest variant of the adaptive adversary; dashes where it was not tried."""
    if measured is None:
        return " | ".join("–" * 5)
    gains = (
        mean_alone(measured[key]) for key in ("standard.gain", "adaptive.gain", "adaptive.median")
    )
    l1 = f"{measured['utility.l1_mean']['mean']:.3f}"
    return " | ".join([l1, *gains, strongest_variant(measured)])


def elsewhere(studies: Mapping[str, Mapping[str, Any]]) -> str:
    """g3 in every other situation, a line a study."""
    lines = [
        "\n## In other situations\n\ng3 at a mean l1 near 0.1. "
        "Runs of 2026-11-26 have the equilibrium as the default.\n\n"
        f"| situation | T | {' | '.join(ELSEWHERE)} | run |\n{'|---' * (len(ELSEWHERE) + 3)}|\n"
    ]
    for name, kept in studies.items():
        for temperature, part in kept["summary"].items():
            if (name, temperature) in {(shown, at) for shown, at, _ in SHOWN}:
                continue
            there = part["defenses"]
            gains = [
                next(
                    (mean_alone(there[name]["adaptive.gain"]) for name in names if name in there),
                    "–",
                )
                for names in ELSEWHERE.values()
            ]
            if set(gains) != {"–"}:
                told = kept["environment"]
                day = told.get("renewed", told)["date"]
                lines.append(f"| {TITLES[name]} | {temperature} | {' | '.join(gains)} | {day} |\n")
    return "".join(lines)


@own_style()
def draw(kept: Mapping[str, Any], temperature: str, to: Path) -> None:
    """The curves of one setting."""
    summary = {temperature: kept["summary"][temperature]}
    save_small(privacy_utility(summary, kept["configuration"]["methods"]), to)


def save_small(figure: Figure, to: Path) -> None:
    """Saves a picture of few colours in few bytes."""
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=85)
    Image.open(drawn).convert("RGB").quantize(64).save(to, optimize=True)


def write_between(page: Path, start: str, end: str, text: str) -> None:
    """Replaces what stands between two marks."""
    before, rest = page.read_text().split(start)
    _, after = rest.split(end)
    page.write_text(f"{before}{start}\n{text}{end}{after}")


if __name__ == "__main__":
    write()
