"""Writes how able the adversaries are on undefended vectors: the first section of docs/results.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Undefended MSE of the standard, the adaptive and the label-only adversary of an earlier prototype on the same data
# (means of seeds 0-2; on MNIST-5k its target and its adversary had twice the rows). Adversaries who recover much less
# would flatter every defense.
REFERENCE = {
    ("standard", "3"): (0.0242, 0.0175, 0.0421),
    ("study-mnist", "4"): (0.0420, 0.0305, 0.0526),
    ("study-mnist-confident", "1"): (0.0519, 0.0347, 0.0526),
}


def able(studies: Mapping[str, Mapping[str, Any]], titles: Mapping[str, str]) -> str:
    """The undefended errors of every study, beside the reference where there is one."""
    lines = [
        "\n## Are the adversaries able?\n\n"
        "Undefended MSE, and in brackets how far it is from that of a prototype which had other divisions of the rows: "
        "on MNIST-5k twice as many for target and adversary. *raw+log* is how much less the wide MLP errs on raw+log "
        "features than on raw ones, *to 1e-30* the same where entries below 1e-6 count too. *Twice the epochs*: by how "
        "much they change the two errors. The standard adversary is the prototype's network, the adaptive one holds "
        "wider networks. Before 2026-11-30 they trained for a fixed number of passes, since then until they converge."
        "\n\n"
        "| data | T | standard | adaptive | label only | raw+log | to 1e-30 | twice the epochs |\n"
        + "|---" * 8
        + "|\n"
    ]
    for name, kept in studies.items():
        for temperature, part in kept["summary"].items():
            bare = part["defenses"]["none"]
            measured = [bare["standard.mse"], bare["adaptive.mse"], part["floors"]["label_only"]]
            reference = REFERENCE.get((name, temperature), (None,) * 3)
            cells = [
                f"{value['mean']:.4f}"
                + ("" if mark is None else f" ({value['mean'] / mark - 1:+.1%})")
                for value, mark in zip(measured, reference, strict=True)
            ]
            wide = "variant.wide MLP, raw"
            cells += [
                f"{1 - bare[variant]['mean'] / bare[wide]['mean']:.0%}"
                if variant in bare
                else "not run"
                for variant in (f"{wide}+log", f"{wide}+log to 1e-30")
            ]
            doubled = part["doubled_epochs"]["none"]
            cells.append(
                ", ".join(
                    f"{doubled[f'{family}.change']['mean']:+.1%}"
                    for family in ("standard", "adaptive")
                )
            )
            lines.append(f"| {titles[name]} | {temperature} | {' | '.join(cells)} |\n")
    return "".join(lines)
