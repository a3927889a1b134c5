"""Write the report of an experiment: one HTML page, a summary in Markdown, and the pictures as PNG files.

Every number comes from results.json, every image from reconstructions.npz beside it, so that a
report can be rebuilt from the folder alone; without that file it has no images.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, PackageLoader, StrictUndefined

from mipoison.eval.adversaries.repeated import WorstCases
from mipoison.eval.report import figures, tables
from mipoison.eval.report.conditions import conditions
from mipoison.eval.report.figures import own_style, png_of
from mipoison.eval.report.glossary import TERMS, definition
from mipoison.eval.report.markdown import asked_again, mean_alone, summary_page, unfinished
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
from mipoison.eval.report.verdict import ahead, leak
from mipoison.eval.scores.frontier import by_budget, strongest_variant


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
            for tab, named in tabs(methods).items():
                shown = ["none", *(name for name in named if name != "label-only")]
                attacks = {name: cell["defenses"][name]["attacks"]["adaptive"] for name in shown}
                captions = {name: f"g3 {attack['gain']:.2f}" for name, attack in attacks.items()}
                title = f"T = {temperature}, seed {seed}, {tab}"
                drawn[_picture(temperature, tab)] = png_of(
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
    methods = configuration["methods"]
    repeated = [tables.worst_cases_table(group, temperature=t) for t, group in summary.items()]
    environment = Environment(
        loader=PackageLoader("mipoison.eval.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    return environment.get_template("report.html").render(
        title=f"How much do the confidences leak? ({configuration['dataset']})",
        unfinished=unfinished(results),
        temperatures=list(summary),
        tabs=list(tabs(methods)),
        picture_of=_picture,
        verdicts=[_verdict(group, methods, temperature=t) for t, group in summary.items()],
        drawn={name: base64.b64encode(png).decode() for name, png in drawn.items()},
        pictures_file=PICTURES,
        equal_l1=[
            tables.equal_l1_table(group, methods, temperature=t) for t, group in summary.items()
        ],
        groups=[_group(group, temperature=t) for t, group in summary.items()],
        repeated=[table for table in repeated if table is not None],
        cases=WorstCases(),
        reference=tables.reference_table(configuration, summary),
        doubling=tables.doubling_table(summary),
        conditions=conditions(results),
        floors=tables.conditions_table(summary),
        terms=TERMS,
    )


def tabs(methods: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """The defenses whose victims are shown together: those of one budget, and those without."""
    return {
        "no budget" if budget is None else f"budget {budget:g}": names
        for budget, names in by_budget(methods).items()
        if names != ["label-only"]
    }


def _picture(temperature: str, tab: str) -> str:
    """The name of a picture of victims."""
    return f"victims-T{temperature}-{tab.replace(' ', '-')}"


def _verdict(
    group: Mapping[str, Any], methods: Sequence[Mapping[str, Any]], *, temperature: str
) -> dict[str, Any]:
    """The strongest of each family at one temperature, and a warning of fresh randomness."""
    defenses = group["defenses"]
    rows = [
        [
            name,
            mean_alone(row["standard.gain"]),
            mean_alone(row["adaptive.gain"]),
            f"{row['adaptive.worst_decile']['mean']:.2f}",
            f"{row['utility.l1_mean']['mean']:.3f}",
            f"{row['utility.labels_changed']['mean'] * len(group['seeds']):.0f}",
            strongest_variant(row),
        ]
        for name in tables.strongest_of_families(group, methods)
        for row in (defenses[name],)
    ]
    caption = (
        f"T = {temperature}. Gain: {definition('gain')} Of each family of defenses, the member with the largest g3 "
        "(at its own distortion, not at an equal one):"
    )
    heads = ["defense", "g2", "g3", "g3 of the worst tenth", "mean l1", "labels changed"]
    heads.append("strongest adversary")
    return {
        "temperature": temperature,
        "leak": leak(group),
        "ahead": ahead(group, methods),
        "table": tables.Table(heads, rows, caption),
        "warning": asked_again(group),
    }


def _group(group: Mapping[str, Any], *, temperature: str) -> dict[str, Any]:
    """The tables of one temperature."""
    seeds = ", ".join(map(str, group["seeds"]))
    caption = f"T = {temperature}, seeds {seeds}, mean ± sd, pixels in [0, 1]."
    extremes = f"{caption} Max and labels changed: over all victims of all seeds."
    return {
        "temperature": temperature,
        "privacy": tables.privacy_table(group, caption=caption),
        "utility": tables.utility_table(group, caption=extremes),
        "variants": tables.variant_table(
            group, caption=f"T = {temperature}: mean MSE on the victims."
        ),
        "crossing": tables.crossing_table(
            group, caption=f"T = {temperature}: MSE of the standard network."
        ),
    }
