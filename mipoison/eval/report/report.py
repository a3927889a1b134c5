"""Write the report of an experiment: one HTML page, a summary in Markdown, and the pictures as PNG files.

Every number comes from results.json, every image from reconstructions.npz beside it, so that a
report can be rebuilt from the folder alone; without that file it has no images.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mipoison.eval.adversaries.repeated import WorstCases
from mipoison.eval.report import figures, glossary, tables
from mipoison.eval.report.conditions import conditions
from mipoison.eval.report.figures import own_style, png_of
from mipoison.eval.report.markdown import asked_again, mean_alone, summary_page, unfinished
from mipoison.eval.report.page import page, picture, table
from mipoison.eval.report.results_file import (
    FIGURES,
    PICTURES,
    REPORT,
    RESULTS,
    SUMMARY,
    cell_name,
    expecting_results,
    read_arrays,
    read_results,
    write_text,
)
from mipoison.eval.scores.frontier import at_one_budget


def write_report(out: Path) -> Path:
    """Writes report.html, summary.md and figures/*.png into the folder of a finished or interrupted experiment.

    Args:
        out: the output folder, with results.json, and reconstructions.npz for the images.

    Returns:
        The page's path.

    Raises:
        FileNotFoundError: if there are no results.
        ValueError: if they are damaged.
    """
    results = read_results(out / RESULTS)
    images = read_arrays(out / PICTURES) if (out / PICTURES).exists() else {}
    with expecting_results(out / RESULTS):
        drawn = draw(results, images)
        pages = {SUMMARY: summary_page(results), REPORT: compose(results, drawn)}
    (out / FIGURES).mkdir(exist_ok=True)
    for name, png in drawn.items():
        (out / FIGURES / f"{name}.png").write_bytes(png)
    for name, text in pages.items():
        write_text(out / name, text)
    return out / REPORT


@own_style()
def draw(
    results: Mapping[str, Any], images: Mapping[str, npt.NDArray[np.float32]]
) -> dict[str, bytes]:
    """Returns the pictures as PNG bytes, by name.

    Args:
        results: what results.json holds.
        images: what reconstructions.npz holds, "seed0-T3/originals" and so on; none: no victims are drawn.
    """
    summary, methods = results["summary"], results["configuration"]["methods"]
    drawn = {"privacy-utility": png_of(figures.privacy_utility(summary, methods))}
    for temperature, group in summary.items():
        seed = group["seeds"][0]
        cell = next(
            cell
            for cell in results["cells"]
            if cell["seed"] == seed and f"{cell['temperature']:g}" == temperature
        )
        prefix = cell_name(seed, cell["temperature"]) + "/"
        own = {
            name.removeprefix(prefix): array
            for name, array in images.items()
            if name.startswith(prefix)
        }
        if own:
            shown = [name for name in at_one_budget(methods) if name != "label-only"]
            attacks = {name: cell["defenses"][name]["attacks"]["A3"] for name in shown}
            captions = {name: f"g3 {attack['gain']:.2f}" for name, attack in attacks.items()}
            title = f"Victims as the strongest adversary sees them (T = {temperature}, seed {seed})"
            drawn[f"victims-T{temperature}"] = png_of(
                figures.victims(own, shown, captions, title=title)
            )
        strongest = tables.strongest_of_families(group, methods)
        drawn[f"learning-T{temperature}"] = png_of(
            figures.learning_curves(cell, ["none", *strongest], methods)
        )
    return drawn


def compose(results: Mapping[str, Any], drawn: Mapping[str, bytes]) -> str:
    """Returns the page.

    Args:
        results: what results.json holds.
        drawn: what `draw` returns.
    """
    summary, configuration = results["summary"], results["configuration"]
    sections = [glossary.INTRODUCTION]
    sections += [f'<p class="note">{escape(said)}</p>' for said in unfinished(results)]
    sections += ["<h2>In short</h2>", *_in_short(results)]
    sections += ["<h2>What the words mean</h2>", glossary.GLOSSARY]
    sections.append("<h2>Every defense against every adversary</h2>")
    for temperature, group in summary.items():
        seeds = ", ".join(map(str, group["seeds"]))
        caption = f"T = {temperature}, seeds {seeds}, mean ± sd, pixels in [0, 1]."
        sections += [
            f"<h3>Served at T = {temperature}: privacy</h3>",
            tables.privacy_table(group, caption=caption),
            f"<h3>Served at T = {temperature}: utility and cost</h3>",
            tables.utility_table(
                group,
                caption=f"{caption} Max and labels changed: over all victims of all seeds.",
            ),
        ]
    sections += ["<h2>Privacy against utility</h2>", _curve_picture(drawn)]
    sections += [
        tables.equal_l1_table(group, configuration["methods"], temperature=temperature)
        for temperature, group in summary.items()
    ]
    sections.append("<h2>The same victims under each defense</h2>")
    sections += [_victims_picture(drawn, temperature) for temperature in summary]
    sections += ["<h2>Is the adversary any good?</h2>", *_sanity(results)]
    sections += _worst_cases(summary)
    sections.append("<h2>Learning curves</h2>")
    sections += [_learning_picture(drawn, temperature) for temperature in summary]
    sections.append("<h2>Every variant of the adversary</h2>")
    for temperature, group in summary.items():
        caption = f"T = {temperature}: mean MSE on the victims."
        crossing = f"T = {temperature}: MSE of the standard network."
        sections += [
            f"<details><summary>T = {temperature}</summary>",
            tables.variant_table(group, caption=caption),
            tables.crossing_table(group, caption=crossing),
            "</details>",
        ]
    sections += ["<h2>Conditions</h2>", conditions(results)]
    sections += ["<h2>Limits</h2>", glossary.LIMITS]
    return page(f"How much do the confidences leak? ({configuration['dataset']})", sections)


def _in_short(results: Mapping[str, Any]) -> list[str]:
    parts = []
    for temperature, group in results["summary"].items():
        defenses, floors = group["defenses"], group["floors"]
        methods = results["configuration"]["methods"]
        rows = [
            [
                escape(name),
                mean_alone(row["A2.gain"]),
                mean_alone(row["A3.gain"]),
                f"{row['A3.worst_decile']['mean']:.2f}",
                f"{row['utility.l1_mean']['mean']:.3f}",
                f"{row['utility.labels_changed']['mean'] * len(group['seeds']):.0f}",
            ]
            for name in tables.strongest_of_families(group, methods)
            for row in (defenses[name],)
        ]
        heads = ["defense", "g2", "g3", "g3 of the worst tenth", "mean l1", "labels changed"]
        caption = (
            f"<strong>T = {temperature}.</strong> Without a defense the strongest adversary "
            f"reconstructs the victims with MSE {defenses['none']['A3.mse']['mean']:.4f}; whoever "
            f"sees the label alone reaches {floors['label_only']['mean']:.4f}. The gain g is 0 "
            "where a defense wins nothing and 1 where only the label leaks. Of each family of "
            "defenses, the member with the largest g3 (at its own distortion, not at an equal "
            "one):"
        )
        parts.append(table([], heads, rows, caption=caption))
        if warning := asked_again(group):
            parts.append(f'<p class="note">T = {temperature}. {escape(warning)}</p>')
    return parts


def _sanity(results: Mapping[str, Any]) -> list[str]:
    summary = results["summary"]
    return [
        "<p>A weak adversary makes every defense look good. Two checks: the adversary reaches "
        "the error known from an earlier prototype, and it gains nothing from "
        "training longer. Where they disagree the first fixes A2: its network and its epochs are "
        "the reference's, and longer training still improves it on the undefended system. Its "
        "gain after twice the epochs stands beside it for that reason; A3 holds the networks that "
        "are trained longer. Batch sizes and the share of rows kept back were set on seeds from 100 "
        "up so that the undefended errors meet the reference; no seed reported here was used for "
        "that unless it is one of those.</p>",
        tables.reference_table(results["configuration"], summary),
        tables.doubling_table(summary),
    ]


def _worst_cases(summary: Mapping[str, Any]) -> list[str]:
    """Says what asking again and knowing more wins the adversary, where that was tried."""
    found = [
        tables.worst_cases_table(group, temperature=temperature)
        for temperature, group in summary.items()
    ]
    if not any(found):
        return []
    return [
        "<h2>Who asks again, and who knows more</h2>",
        glossary.worst_cases(WorstCases()),
        *found,
    ]


def _curve_picture(drawn: Mapping[str, bytes]) -> str:
    return picture(
        drawn["privacy-utility"],
        description="Gain against realised mean l1 distortion, with the label-only ceiling",
        caption="Up is more private, left is less distorted. Mean and sd over seeds. No defense "
        "lies at gain 0 and distortion 0, outside the logarithmic axis. The dashed line is the "
        "label-only ceiling: gains above it exist only against an adversary who does not use it.",
    )


def _victims_picture(drawn: Mapping[str, bytes], temperature: str) -> str:
    if f"victims-T{temperature}" not in drawn:
        return f"<p>T = {temperature}: no {PICTURES} is beside the numbers.</p>"
    return picture(
        drawn[f"victims-T{temperature}"],
        description=f"Victims reconstructed under each defense at T = {temperature}",
        caption="The first victim of each class in the split's order, nothing selected. Each row "
        "is reconstructed by the variant of A3 that does best on that defense's victims. Where "
        "rows look like the last one, only the label leaks. Of many defenses, those of one budget "
        "are shown.",
    )


def _learning_picture(drawn: Mapping[str, bytes], temperature: str) -> str:
    return picture(
        drawn[f"learning-T{temperature}"],
        description=f"Learning curves of the adversaries at T = {temperature}",
        caption=f"T = {temperature}, first seed. Solid: error on auxiliary rows that the adversary "
        "kept back; dotted: on the rows it trains on. Dashed: the label-only adversary on the "
        "victims.",
    )
