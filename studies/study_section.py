"""Writes one study of the defenses: a section of the long page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import median
from typing import Any

from details_section import details
from kept import TITLES, made

from mipoison.eval.report.markdown import (
    COLUMNS,
    described,
    equal_l1_table,
    row,
    spread,
    worst_cases_table,
)
from mipoison.eval.scores.frontier import budget_of, budgets_of, errors_of_variants


def section(name: str, kept: dict[str, Any]) -> str:
    """A study: its conditions, its adversaries' sanity, and its tables."""
    configuration, environment = kept["configuration"], kept["environment"]
    methods = configuration["methods"]
    budgets = budgets_of(methods)
    lines = [f"\n## {TITLES[name]}\n\n{described(configuration)}."]
    lines.append(f" {adversaries(configuration)}{lasted(kept)}\n\n")
    for temperature, part in kept["summary"].items():
        bare, floors = part["defenses"]["none"], part["floors"]
        doubled = part["doubled_epochs"]["none"]
        lines.append(
            f"**T = {temperature}**, target {configuration['target']} "
            f"(accuracy on victims {spread(part['target']['accuracy'], 3)}, the evaluator's "
            f"{spread(part['target']['evaluator_accuracy'], 3)}), seeds {part['seeds']}, "
            f"{made(environment)}. Undefended MSE: "
            f"standard {bare['standard.mse']['mean']:.4f}, adaptive {bare['adaptive.mse']['mean']:.4f}; "
            f"label only {floors['label_only']['mean']:.4f}; "
            f"the mean of all {floors['global_mean']['mean']:.4f}, "
            f"of the true class {spread(floors['class_mean'], 4)}; "
            f"twice the epochs change the standard by {doubled['standard.change']['mean']:+.1%} and the adaptive by "
            f"{doubled['adaptive.change']['mean']:+.1%}.\n\n"
        )
        for budget in budgets:
            chosen = [m for m in methods if budget_of(m) == budget]
            lines.append(
                f"*T = {temperature}, mean l1 of {budget:g}*\n\n{table(chosen, part['defenses'])}\n"
            )
        if len(budgets) > 1:
            lines.append(
                "*g3 at equal realised mean l1*, between the points of each family's curve\n\n"
                f"{equal_l1_table(part, methods)}\n"
            )
        lines.append(by_decoder(methods, part))
        others = [m for m in methods if budget_of(m) is None and m["name"] != "none"]
        lines.append(
            f"*T = {temperature}, without a budget*\n\n{table(others, part['defenses'])}\n"
        )
        lines.append(strongest(part))
        lines.append(details(methods, part))
        worst = worst_cases_table(part)
        if worst:
            where = kept.get("asked_in") or environment
            lines.append(
                "*Repeated queries, other keys, the leaked key* ([how](#what-the-key-is-worth)), "
                f"{where['processor']}, {where['date']}\n{worst}\n"
            )
    return "".join(lines)


def table(methods: Sequence[dict[str, Any]], measured: dict[str, Any]) -> str:
    """The methods in the order of g3."""
    ranked = sorted(methods, key=lambda method: -measured[method["name"]]["adaptive.gain"]["mean"])
    lines = []
    for method in ranked:
        # Without a budget the strength is part of the name.
        title = method["name"] if budget_of(method) is None else method["family"]
        lines.append(row(title, measured[method["name"]]))
    return COLUMNS + "".join(lines)


def strongest(part: dict[str, Any]) -> str:
    """Behind how many of the defenses each variant of the adaptive adversary errs least."""
    behind: Counter[str] = Counter()
    for name, measured in part["defenses"].items():
        errors = errors_of_variants(measured)
        behind.update(dict.fromkeys(errors, 0))
        if name != "none":
            behind[min(errors, key=errors.__getitem__)] += 1
    named = [f"{name} ({count})" for name, count in behind.most_common() if count]
    never = [name for name, count in behind.items() if not count]
    return (
        f"Strongest by the mean over seeds, and behind how many of {len(part['defenses']) - 1} defenses: "
        f"{'; '.join(named)}. Behind none: {'; '.join(never)}.\n\n"
    )


def by_decoder(methods: Sequence[dict[str, Any]], part: dict[str, Any]) -> str:
    """How decoders alone would rank the methods; nothing where there were none."""
    kinds = [name for name in part["defenses"]["none"] if name.startswith("variant.decoder")]
    kinds = [name for name in kinds if not name.endswith("trained clean")]
    if not kinds:
        return ""

    def error(name: str) -> float:
        return float(min(part["defenses"][name][kind]["mean"] for kind in kinds))

    bare, ceiling = error("none"), part["floors"]["label_only"]["mean"]
    if bare >= ceiling:
        return f"The decoders learn nothing beyond the label ({ceiling:.4f}) from undefended vectors ({bare:.4f}).\n\n"
    gains = {m["name"]: (error(m["name"]) - bare) / (ceiling - bare) for m in methods}
    names = sorted((name for name in gains if name != "none"), key=lambda name: -gains[name])
    lines = [
        f"**By the better decoder of each defense alone** (undefended MSE {bare:.4f})\n\n",
        "| defense | gain | g3 of all |\n|---|---|---|\n",
    ]
    for name in names:
        everyone = part["defenses"][name]["adaptive.gain"]["mean"]
        lines.append(f"| {name} | {gains[name]:.2f} | {everyone:.2f} |\n")
    return "".join(lines) + "\n"


def adversaries(configuration: dict[str, Any]) -> str:
    """What the adversaries have beside what all of them have."""
    settings = configuration["adversary"]
    said = []
    if settings["losses"]:
        said.append(
            f"Beside those for the squared error, a wide MLP is trained for each of {', '.join(settings['losses'])}."
        )
    if settings["decoders"]:
        said.append(
            f"Decoders of transposed convolutions, {settings['decoder_channels']} channels, "
            f"{settings['decoder_epochs']} epochs: {', '.join(settings['decoders'])}."
        )
    return " ".join(said)


def lasted(kept: dict[str, Any]) -> str:
    """How long a cell took."""
    if not kept["seconds"]:
        return ""
    return f" A cell took {median(kept['seconds']) / 60:.0f} minutes of one core (median)."
