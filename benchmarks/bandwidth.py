"""Plots achieved bandwidth against K, beside that of a copy and of softmax."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from measurements import Measurement

# Norms in the order of the legend. Colour-blind readers can tell these colours apart (Okabe and Ito).
LINES = {"none": "#0072B2", "l1": "#D55E00", "l2": "#009E73", "linf": "#CC79A7"}


def _line(
    axes: Axes,
    measurements: Sequence[Measurement],
    gigabytes: Callable[[Measurement], float],
    **style: object,
) -> None:
    points = sorted({one.k: gigabytes(one) for one in measurements}.items())
    if points:
        axes.plot(*zip(*points, strict=True), **style)


def _panel(axes: Axes, device: str, measurements: Sequence[Measurement]) -> None:
    """Draws one device's panel: `step` in float32, on a CPU with one thread."""
    chosen = [
        one
        for one in measurements
        if (one.operation, one.group, one.dtype) == ("step", "throughput", "float32")
        and one.variant is None
        and one.threads in (1, None)
        and {"add", "softmax"} <= one.seconds.keys()
    ]
    free = [one for one in chosen if one.norm == "none"]

    def copy(one: Measurement) -> float:
        return float(one.bytes) / one.seconds["add"] / 1e9

    def softmax(one: Measurement) -> float:
        # softmax reads one tensor and writes one: two thirds of the bytes that step and add move.
        return float(one.bytes) * 2 / 3 / one.seconds["softmax"] / 1e9

    _line(axes, free, copy, color="black", linestyle="--", label="copy: torch.add(out=)")
    _line(axes, free, softmax, color="grey", linestyle=":", label="torch.softmax(out=)")
    for norm, color in LINES.items():
        label = "step, no ball" if norm == "none" else f"step, {norm} ball"
        same = [one for one in chosen if one.norm == norm]
        _line(axes, same, lambda one: one.bandwidth / 1e9, color=color, marker="o", label=label)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="K, classes",
        ylabel="achieved bandwidth, GB/s (least bytes ÷ time)",
        title=f"{device}, float32" + (", one thread" if device == "CPU" else ""),
    )
    axes.grid(which="both", alpha=0.2)
    axes.legend(fontsize="small")


def draw(devices: dict[str, Sequence[Measurement]], path: Path) -> None:
    """Writes the plot to a file, with one panel for each device."""
    figure, panels = plt.subplots(
        1, len(devices), figsize=(6.5 * len(devices), 4.5), squeeze=False, layout="constrained"
    )
    for axes, (device, measurements) in zip(panels[0], devices.items(), strict=True):
        _panel(axes, device, measurements)
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)
