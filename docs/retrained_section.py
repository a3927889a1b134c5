"""Writes what docs/retrained.py measured: its section of docs/results.md."""

from __future__ import annotations

from typing import Any

from mipoison.eval.markdown import spread
from mipoison.eval.metrics import gain
from mipoison.eval.summary import statistic

NAMES = {
    "nls": "negative label smoothing, α",
    "vib": "information bottleneck, β",
    "bido": "bilateral dependency, λx",
}


def retrained_section(kept: dict[str, Any]) -> str:
    """What targets of each way and strength are worth, and what they leak."""
    environment, targets = kept["environment"], kept["targets"]
    plain = targets["mlp"]
    lines = [
        "\n## Trained to leak less\n\n"
        f"Digits, T = {kept['temperature']:g}, seeds {[trial['seed'] for trial in plain]}, "
        f"{environment['processor']}, {environment['date']}: targets that are trained otherwise, their vectors "
        "served as they are. The gains are counted from the plain target's errors to its label-only adversary's, so "
        "that they stand beside those of poisoned vectors [above](#digits).\n\n"
        "| target | accuracy | A2 | A3 | label only | g2 | g3 | identity |\n" + "|---" * 8 + "|\n"
    ]
    for target, trials in targets.items():
        gains = {
            family: [
                gain(trial[family], bare[family], bare["label_only"])
                for trial, bare in zip(trials, plain, strict=True)
            ]
            for family in ("A2", "A3")
        }
        measured = {key: statistic([trial[key] for trial in trials]) for key in trials[0]}
        cells = [
            _title(target),
            spread(measured["accuracy"], 3),
            *(f"{measured[key]['mean']:.4f}" for key in ("A2", "A3", "label_only")),
            *(spread(statistic(own)) for own in gains.values()),
            f"{measured['identity']['mean']:.0%}",
        ]
        lines.append("| " + " | ".join(cells) + " |\n")
    return "".join(lines)


def _title(target: str) -> str:
    """A target's name, in words.

    Example:
        >>> _title("mlp+vib:0.1")
        'information bottleneck, β = 0.1'
    """
    way, _, strength = target.partition("+")[2].partition(":")
    return f"{NAMES[way]} = {strength}" if way else "plain"
