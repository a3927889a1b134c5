"""Writes what a study's tables leave out: a table of the long page that is folded away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mipoison.eval.report.markdown import spread

# Heading, number of results.json, and digits.
SHOWN = (
    ("MSE", "adaptive.mse", 4),
    ("PSNR, dB", "adaptive.psnr", 1),
    ("SSIM", "adaptive.ssim", 2),
    ("distance", "adaptive.feature_distance", 2),
    ("g1", "clean.gain", 2),
    ("g2, median", "standard.median", 2),
    ("g2, worst tenth", "standard.worst_decile", 2),
    ("g3 chosen", "adaptive chosen.gain", 2),
    ("clean, defended", "train_test.clean_defended", 4),
    ("defended, clean", "train_test.defended_clean", 4),
    ("defended, defended", "train_test.defended_defended", 4),
    ("accuracy", "utility.accuracy", 3),
    ("ECE", "utility.ece", 3),
    ("decisions", "utility.accept_changed", 3),
    ("l2", "utility.l2_mean", 3),
    ("l∞", "utility.linf_mean", 3),
    ("KL, nats", "utility.kl_mean", 3),
    ("top", "utility.top_change_mean", 3),
)
MEANING = """MSE, PSNR, SSIM and *distance* (of the evaluator's features; 1: as far as two victims are apart) are g3's
reconstructions'; g1 is the gain under the clean adversary, *g3 chosen* that of the variant which the adversary would
choose by the rows kept back. Then the standard adversary's MSE by what it was trained and tested on; trained and tested
on undefended vectors it stands above. *Decisions*: the share of victims moved across the median of the undefended top
confidences; *top*: how far that confidence moved. Means over the victims, mean ± standard deviation over the seeds.

"""


def details(methods: Sequence[Mapping[str, Any]], part: Mapping[str, Any]) -> str:
    """A table of everything else that was measured, folded away."""
    lines = [
        "<details><summary>The rest of what was measured</summary>\n\n",
        MEANING,
        f"| defense | {' | '.join(head for head, *_ in SHOWN)} |\n",
        "|---" * (len(SHOWN) + 1) + "|\n",
    ]
    for method in methods:
        measured = part["defenses"][method["name"]]
        cells = [spread(measured[key], digits) for _, key, digits in SHOWN]
        lines.append(f"| {method['name']} | {' | '.join(cells)} |\n")
    return "".join(lines) + "\n</details>\n\n"
