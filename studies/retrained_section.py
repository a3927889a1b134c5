"""Writes what `studies/retrained.py` measured: a section of the long page."""

from __future__ import annotations

from csv_rows import read_rows
from retrained import FILE, PLAIN

from mipoison.eval.metrics import gain
from mipoison.eval.report.markdown import spread
from mipoison.eval.scores.summary import statistic

MEASURED = ("accuracy", "standard", "adaptive", "label_only", "identity")
NAMES = {
    "nls": "negative label smoothing, α",
    "vib": "information bottleneck, β",
    "bido": "bilateral dependency, λx",
}


def retrained_section() -> str:
    """What targets of each way and strength are worth, and what they leak; nothing where the study was not run."""
    rows = read_rows(FILE)
    if not rows:
        return ""
    targets: dict[str, list[dict[str, float]]] = {}
    for row in rows:
        trial = {key: float(row[key]) for key in MEASURED}
        targets.setdefault(row["target"], []).append(trial)
    plain = targets["mlp"]
    lines = [
        "\n## Trained to leak less\n\n"
        f"Digits, T = {PLAIN.temperatures[0]:g}, seeds {', '.join(map(str, PLAIN.seeds))}, "
        f"{rows[0]['processor']}, {rows[0]['date']}: targets that are trained otherwise, their vectors "
        "served as they are. The gains are counted from the plain target's errors to its label-only adversary's, so "
        "that they stand beside those of poisoned vectors [above](#digits).\n\n"
        "| target | accuracy | standard | adaptive | label only | g2 | g3 | identity |\n"
        + "|---" * 8
        + "|\n"
    ]
    for target, trials in targets.items():
        gains = [
            [
                gain(trial[family], bare[family], bare["label_only"])
                for trial, bare in zip(trials, plain, strict=True)
            ]
            for family in ("standard", "adaptive")
        ]
        measured = {key: statistic([trial[key] for trial in trials]) for key in MEASURED}
        cells = [
            _title(target),
            spread(measured["accuracy"], 3),
            *(f"{measured[key]['mean']:.4f}" for key in ("standard", "adaptive", "label_only")),
            *(spread(statistic(own)) for own in gains),
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
