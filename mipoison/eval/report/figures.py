"""Put the parts of a report into one HTML page that needs nothing else."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps, rc_context, rcdefaults
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator, FormatStrFormatter, NullLocator


@contextmanager
def own_style() -> Iterator[None]:
    """Matplotlib's own defaults within the block, whatever a user's matplotlibrc or style says; also a decorator."""
    with rc_context():
        rcdefaults()
        yield


def png_of(figure: Figure) -> bytes:
    """Renders a figure at 150 dots an inch."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    # No software tag: the same numbers give the same bytes with the same library.
    figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return buffer.getvalue()


# Okabe and Ito's palette, told apart by readers with any colour vision; each family of defenses
# also has a marker of its own, and keeps both in every picture.
_PALETTE = ("#000000", "#888888", "#D55E00", "#009E73", "#CC79A7", "#0072B2", "#56B4E9", "#E69F00")
_MARKERS = ("o", "*", "s", "^", "D", "v", "P", "X")
_DISTORTIONS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
# Beyond so many times the least distortion, those ticks touch each other.
_WIDE, _FEWER = 300, (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
_ATTACKS = {"standard": "standard adversary", "adaptive": "adaptive adversary"}
_FONT = 9


def privacy_utility(summary: Mapping[str, Any], methods: Sequence[Mapping[str, Any]]) -> Figure:
    """Draws gain against realised mean l1: a row a temperature, the standard adversary left and the adaptive right.

    Args:
        summary: "summary" of results.json.
        methods: "configuration.methods" of results.json.
    """
    temperatures = list(summary)
    figure = Figure(figsize=(9.6, 3.7 * len(temperatures) + 0.5), layout="constrained")
    panels = figure.subplots(len(temperatures), 2, sharey="row", sharex=True, squeeze=False)
    styles = _styles(methods)
    shown = [method for method in methods if method["name"] != "none"]
    families = list(dict.fromkeys(method["family"] for method in shown))
    for row, temperature in zip(panels, temperatures, strict=True):
        for panel, (attack, title) in zip(row, _ATTACKS.items(), strict=True):
            proved = 0
            for family in families:
                names = [method["name"] for method in shown if method["family"] == family]
                _curve(panel, summary[temperature]["defenses"], names, attack, styles[family])
                if attack == "adaptive":
                    proved += _dashes(
                        panel, summary[temperature]["defenses"], names, styles[family]
                    )
            panel.axhline(1.0, color="#444444", linestyle="--", linewidth=1.2)
            panel.annotate(
                "label-only ceiling (gain 1)",
                (0.02, 1.0),
                (0, 3),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                fontsize=_FONT - 1,
                color="#444444",
            )
            if not panel.containers:
                panel.text(
                    0.5,
                    0.5,
                    "no gain: this adversary learns nothing beyond\nthe label even without a defense",
                    transform=panel.transAxes,
                    ha="center",
                    va="center",
                    fontsize=_FONT,
                )
            panel.axhline(0.0, color="#999999", linewidth=0.8)
            panel.set_xscale("log")
            low, high = panel.get_xlim()
            panel.xaxis.set_major_locator(
                FixedLocator(_FEWER if high > _WIDE * low else _DISTORTIONS)
            )
            panel.xaxis.set_major_formatter(FormatStrFormatter("%g"))
            panel.xaxis.set_minor_locator(NullLocator())
            panel.tick_params(labelbottom=True)
            told = " (a dash: certified)" if proved else ""
            panel.set_title(f"T = {temperature}, {title}{told}", fontsize=_FONT + 1)
            panel.set_xlabel("realised mean l1 distortion of a confidence vector (log scale)")
            panel.grid(alpha=0.25)
        row[0].set_ylabel("gain (share, 0 = undefended)")
        top = max(1.15, *(panel.get_ylim()[1] for panel in row))
        row[0].set_ylim(min(-0.1, row[0].get_ylim()[0]), top)
    # The strongest adversary has a gain where another may have none.
    handles, labels = panels[0][1].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=4, fontsize=_FONT, frameon=False
    )
    return figure


def _styles(methods: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    families = dict.fromkeys(method["family"] for method in methods)
    styles = {}
    for index, family in enumerate(families):
        turn, place = divmod(index, len(_PALETTE))
        color = _PALETTE[place]
        styles[family] = {
            "label": family,
            "color": color,
            # Those that come after the palette's end have its colours again, hollow and dotted, then other markers too.
            "marker": _MARKERS[(place + turn // 2) % len(_MARKERS)],
            "linestyle": ":" if turn % 2 else "-",
            "markerfacecolor": "white" if turn % 2 else color,
        }
    return styles


def _curve(
    panel: Axes,
    defenses: Mapping[str, Any],
    names: Sequence[str],
    attack: str,
    style: Mapping[str, Any],
) -> None:
    points = sorted(
        (
            defenses[name]["utility.l1_mean"]["mean"],
            defenses[name][f"{attack}.gain"]["mean"],
            defenses[name][f"{attack}.gain"]["sd"] or 0.0,
        )
        for name in names
        if defenses[name][f"{attack}.gain"]["mean"] is not None
    )
    if not points:
        return
    distortion, gains, deviations = zip(*points, strict=True)
    panel.errorbar(
        distortion,
        gains,
        yerr=deviations,
        **style,
        markersize=6,
        linewidth=1.5,
        capsize=2.5,
    )


def _dashes(
    panel: Axes, defenses: Mapping[str, Any], names: Sequence[str], style: Mapping[str, str]
) -> int:
    """Draws a dash at each certified gain, and returns how many there are; runs of before have none."""
    proved = {
        defenses[name]["utility.l1_mean"]["mean"]: defenses[name]["certificate.gain"]["mean"]
        for name in names
        if (defenses[name].get("certificate.gain") or {"mean": None})["mean"] is not None
    }
    shown = {distortion: gain for distortion, gain in proved.items() if gain > 0}
    panel.scatter(
        list(shown), list(shown.values()), marker="_", s=160, linewidths=2, color=style["color"]
    )
    return len(shown)


def victims(
    images: Mapping[str, npt.NDArray[np.float32]],
    methods: Sequence[str],
    captions: Mapping[str, str],
    *,
    title: str,
) -> Figure:
    """Draws the same victims as the strongest adversary sees them, one row a defense.

    Args:
        images: "originals", "label only" and the defenses, each ``[V, H, W]`` in [0, 1].
        methods: the defenses, in the order of the rows.
        captions: a line of numbers under each defense's name.
        title: heading.
    """
    rows = ["originals", *methods, "label only"]
    count = len(images["originals"])
    figure = Figure(
        figsize=(2.0 + 0.55 * count, 0.4 + 0.58 * len(rows)),
        layout=ConstrainedLayoutEngine(w_pad=0.015, h_pad=0.015),
    )
    figure.suptitle(title, fontsize=_FONT + 1)
    panels = figure.subplots(len(rows), count, squeeze=False)
    names = {"originals": "originals", "label only": "label only\n(class mean)"}
    for row, name in zip(panels, rows, strict=True):
        for panel, image in zip(row, images[name], strict=True):
            panel.imshow(image, cmap=colormaps["gray"], vmin=0.0, vmax=1.0)
            panel.set_xticks([])
            panel.set_yticks([])
        text = f"{names.get(name, name)}\n{captions.get(name, '')}".strip()
        row[0].set_ylabel(text, rotation=0, ha="right", va="center", fontsize=_FONT, labelpad=6)
    return figure


def learning_curves(
    cell: Mapping[str, Any], names: Sequence[str], methods: Sequence[Mapping[str, Any]]
) -> Figure:
    """Draws each trained adversary's error after each epoch, solid on rows it kept back.

    Args:
        cell: one of "cells" of results.json.
        names: the defenses drawn.
        methods: "configuration.methods" of results.json.
    """
    styles = _styles(methods)
    families = {method["name"]: method["family"] for method in methods}
    variants = list(cell["defenses"][names[0]]["curves"])
    figure = Figure(figsize=(3.4 * len(variants), 3.7), layout="constrained")
    panels = figure.subplots(1, len(variants), sharey=True, squeeze=False)[0]
    for panel, variant in zip(panels, variants, strict=True):
        for name in names:
            curve = cell["defenses"][name]["curves"][variant]
            # Its line tells the rows apart here, not families of one colour: their markers do.
            look = {**styles[families[name]], "label": name, "linestyle": "-"}
            epochs = range(1, len(curve["held_out"]) + 1)
            panel.plot(
                epochs, curve["held_out"], **look, linewidth=1.6, markersize=5, markevery=(4, 10)
            )
            panel.plot(epochs, curve["train"], color=look["color"], linewidth=1.0, linestyle=":")
        panel.axhline(cell["floors"]["label_only"], color="#444444", linestyle="--", linewidth=1.0)
        panel.set_title(variant, fontsize=_FONT + 1)
        panel.set_xlabel("epoch")
        panel.grid(alpha=0.25)
    panels[0].set_ylabel("mean squared error of a pixel\n(pixels in [0, 1])")
    panels[0].annotate(
        "label only",
        (0.98, cell["floors"]["label_only"]),
        (0, 3),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        fontsize=_FONT - 1,
        color="#444444",
        ha="right",
    )
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=4, fontsize=_FONT, frameon=False
    )
    return figure
