"""The studies whose numbers are kept, each with all that was run in its situation."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

from presets import STUDIES

from mipoison.eval.report import leaderboard
from mipoison.eval.scores.frontier import budget_of

NUMBERS = Path(__file__).parent / "numbers"
TITLES = {
    "standard": "Digits",
    "study-mnist": "MNIST-5k, softened",
    "study-mnist-confident": "MNIST-5k, confident",
    "study-fashion": "Fashion-MNIST",
    "study-faces": "ORL faces, softened",
    "study-faces-confident": "ORL faces, confident",
    "study-lfw-imagenet": "Faces in the Wild, EfficientNet's vectors",
    "study-lfw-imagenet-softened": "Faces in the Wild, EfficientNet's vectors, softened",
    "study-lfw-imagenet-48": "Faces in the Wild at 48×48, EfficientNet's vectors",
    "study-lfw-identity": "Faces in the Wild, a classifier of 62 people",
    "study-decoder": "Digits, with other losses and decoders among the adversaries",
    "study-yang": "MNIST-5k, Yang et al.'s classifier and decoder",
    "study-strangers": "ORL faces, auxiliary data of other people, with a decoder",
    "study-nls": "Digits, a target trained with negative label smoothing",
    "study-vib": "Digits, a target trained with an information bottleneck",
    "study-bido": "Digits, a target trained with bilateral dependency",
    "study-ablation": "Digits, the equilibrium by other rules",
}
# What is asked again where, in the situation of a study: in its table of worst cases.
ASKED = {"study-mnist": "asked-mnist", "study-faces": "asked-faces"}
# The rest of the defenses in the same situation: one table with those of the study.
REST = {
    "standard": "more-digits",
    "study-mnist": "more-mnist",
    "study-mnist-confident": "more-mnist-confident",
    "study-faces": "more-faces",
    "study-faces-confident": "more-faces-confident",
}
# The default of a study, run again after its code had changed: these numbers take the place of the study's.
AGAIN = {
    "standard": "again-digits",
    "study-mnist": "again-mnist",
    "study-mnist-confident": "again-mnist-confident",
    "study-faces": "again-faces",
    "study-faces-confident": "again-faces-confident",
    "study-lfw-imagenet": "again-lfw-imagenet",
    "study-lfw-imagenet-softened": "again-lfw-imagenet-softened",
    "study-lfw-identity": "again-lfw-identity",
}


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """In which settings the situations of two runs differ."""
    asked = ("methods", "checked_methods", "worst_case_methods")
    return [name for name in one if name not in asked and one[name] != other[name]]


def joined(kept: dict[str, Any], rest: dict[str, Any]) -> dict[str, Any]:
    """A study with the defenses and the worst cases of another run in the same situation.

    Of what both have measured, the study's numbers stay.

    Raises:
        SystemExit: if the situations differ, or what the adversaries make of undefended vectors.
    """
    own, other = kept["configuration"], rest["configuration"]
    if differing := differences(own, other):
        raise SystemExit(f"expected two runs in one situation, they differ in {differing}")
    summary = {}
    for temperature, part in kept["summary"].items():
        defenses, added = part["defenses"], rest["summary"][temperature]["defenses"]
        bare, again = (group["none"]["adaptive.mse"]["mean"] for group in (defenses, added))
        if abs(bare - again) > 0.001 * bare:
            raise SystemExit(f"expected one undefended MSE, got {bare:.5f} and {again:.5f}")
        worst = (group["worst_cases"] for group in (rest["summary"][temperature], part))
        summary[temperature] = part | {
            "defenses": added | defenses,
            "worst_cases": {name: case for group in worst for name, case in group.items()},
        }
    known = {method["name"] for method in own["methods"]}
    new = [method for method in other["methods"] if method["name"] not in known]
    configuration = own | {"methods": own["methods"] + new}
    # Repeated queries of another run were made in its environment.
    where = rest["environment"] if other["worst_case_methods"] else kept.get("asked_in")
    return kept | {"configuration": configuration, "summary": summary, "asked_in": where}


def renewed(kept: dict[str, Any], again: dict[str, Any]) -> dict[str, Any]:
    """A study with what a later run of some of its defenses measured in their place, and when that was.

    Raises:
        SystemExit: see `joined`.
    """
    both = joined(again, kept)
    later = [m["family"] for m in again["configuration"]["methods"] if budget_of(m) is not None]
    environment = kept["environment"] | {
        "renewed": {"families": [*dict.fromkeys(later)], "date": again["environment"]["date"]}
    }
    # The order of the tables, and the conditions, are the study's.
    own = {name: kept[name] for name in ("configuration", "seconds")}
    return both | own | {"environment": environment, "asked_in": None}


def made(environment: dict[str, Any]) -> str:
    """The processor and the date of a run, and what of it was run again."""
    told = f"{environment['processor']}, {environment['date']}"
    if again := environment.get("renewed"):
        told += (
            f" ({' and '.join(again['families'])} run again, after a change, on {again['date']})"
        )
    return told


def studies_kept() -> dict[str, dict[str, Any]]:
    """The studies that there are, each with the rest of its defenses, if both were run in one situation."""
    runs = leaderboard.read(NUMBERS)
    studies = {name: runs[name] for name in TITLES if name in runs}
    for name, again in AGAIN.items():
        if name in studies and again in runs and _later(runs[again], studies[name]):
            studies[name] = renewed(studies[name], runs[again])
    for name, rest in (*REST.items(), *ASKED.items()):
        if name not in studies or rest not in runs:
            continue
        if not differences(studies[name]["configuration"], runs[rest]["configuration"]):
            studies[name] = joined(studies[name], runs[rest])
    return studies


def _later(again: dict[str, Any], study: dict[str, Any]) -> bool:
    """Whether it was run after the study, in its situation."""
    dates = (run["environment"]["date"] for run in (again, study))
    later, earlier = (datetime.date.fromisoformat(date) for date in dates)
    return later >= earlier and not differences(again["configuration"], study["configuration"])


def titles() -> dict[str, str]:
    """What each study shows, by name."""
    wanted = TITLES | {
        rest: f"the remaining defenses on: {TITLES[name]}" for name, rest in REST.items()
    }
    wanted |= {asked: f"worst cases of: {TITLES[name]}" for name, asked in ASKED.items()}
    return wanted


def missing() -> list[str]:
    """Names the studies that are not there, and what they would show."""
    there = leaderboard.read_runs(NUMBERS)
    return [f"`{name}` ({title})" for name, title in titles().items() if name not in there]


def older() -> list[str]:
    """Names the studies that were run with other settings than `presets.py` has now, and when."""
    there = leaderboard.read_runs(NUMBERS)
    return [
        f"`{name}` ({there[name]['environment']['date']})"
        for name in titles()
        if name in there and there[name]["configuration"] != _plain(STUDIES[name].to_json())
    ]


def _plain(configuration: dict[str, Any]) -> dict[str, Any]:
    """A configuration as it is read from JSON."""
    plain: dict[str, Any] = json.loads(json.dumps(configuration))
    return plain
