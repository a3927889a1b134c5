"""Takes finished runs of the study into docs/study and writes docs/results.md from what lies there.

    python docs/results_page.py [RUN...]    # runs/study/standard ... runs/study/keys.json runs/study/retrained.json

Of a run its conditions and its summary are kept, not its cells; of docs/keys.py and docs/retrained.py the file. The
page is made of all that lies in docs/study.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from able_section import able
from details_section import details, folded
from keys_section import draw_keys, keys_section
from retrained_section import retrained_section

from mipoison.eval.frontier import budget_of, budgets_of
from mipoison.eval.markdown import (
    COLUMNS,
    described,
    equal_l1_table,
    mean_alone,
    row,
    worst_cases_table,
)

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "docs/study"
PAGE = ROOT / "docs/results.md"
DEFENSES = ROOT / "docs/defenses.md"
TITLES = {
    "standard": "Digits",
    "study-mnist": "MNIST-5k, softened",
    "study-mnist-confident": "MNIST-5k, confident",
    "study-faces": "ORL faces, softened",
    "study-faces-confident": "ORL faces, confident",
    "study-decoder": "Digits, with other losses and decoders among the adversaries",
    "study-yang": "MNIST-5k, Yang et al.'s classifier and decoder",
    "study-yang-full": "MNIST-5k, Yang et al.'s classifier and decoder at their published widths",
    "study-strangers": "ORL faces, an adversary who has photos of other people alone",
    "study-nls": "Digits, a target trained with negative label smoothing",
    "study-vib": "Digits, a target trained with an information bottleneck",
    "study-bido": "Digits, a target trained with bilateral dependency",
    "study-ablation": "Digits, the equilibrium by other rules",
}
# The rest of the defenses in the same situation: one table with those of the study, and a picture of their own.
REST = {
    "standard": "more-digits",
    "study-mnist": "more-mnist",
    "study-mnist-confident": "more-mnist-confident",
    "study-faces": "more-faces",
    "study-faces-confident": "more-faces-confident",
}
# Kept of the studies that have a rest.
PICTURED = {
    "victims": "Victims as the strongest adversary sees them",
    "learning": "Learning curves of the first seed",
}
HEAD = """# The defenses compared

Gains, costs and distortion of every defense at equal mean l1, under adversaries who train on defended vectors. Written
by `docs/results_page.py` out of the JSON in `docs/study`; `make study` runs it all anew (hours; cell by cell: what is
finished is not run again).

*Gain* is 0 where a defense wins nothing and 1 where only the label still leaks. g2: an MLP on the raw defended vectors.
g3: the strongest, on the victims, of wide MLPs on raw and raw+log features (entries below 1e-6 raised to that; another
to 1e-30), their means, nearest neighbours and label only, and of what a section names beside them. *Median* and *worst
decile* are of the per-victim gain under that strongest adversary. *Denoiser*: the gain under an adversary who holds the
undefended answers to their own queries too, counted from their own undefended error; *all*: under the stronger of these
two, counted from the smaller. A dash: for some seed, that adversary makes no more of undefended vectors than of their
labels, and measures no defense, or an older version did not count it. *Identity*: the share of the strongest
adversary's reconstructions that an independent classifier takes for the victim's class. Seeds 0-2, mean ± standard
deviation; nothing was tuned on them. Pixels in [0, 1]; image sizes and roles stand in each section; no LPIPS, whose
weights are a download. *l1* is what was realised on the victims, *largest* its maximum, *unchanged* the share of
victims served as they were. LFP alone changes labels: the share in its name, lowest leads first.
*µs* is a row in one batch of all queries and victims, one thread.
"""


def keep(run: Path) -> None:
    """Copies a finished run's summary and pictures into docs/study.

    Raises:
        SystemExit: if the run is not finished.
    """
    results = json.loads((run / "results.json").read_text())
    if not results["complete"]:
        raise SystemExit(f"expected a finished run, got {run}, which lacks cells; run it again")
    KEPT.mkdir(exist_ok=True)
    kept = {name: results[name] for name in ("environment", "configuration", "summary")}
    kept["seconds"] = [cell["seconds"] for cell in results["cells"]]
    (KEPT / f"{run.name}.json").write_text(json.dumps(kept, indent=1) + "\n")
    shutil.copy(run / "figures/privacy-utility.png", KEPT / f"{run.name}.png")
    if run.name in REST:
        for kind in PICTURED:
            for picture in (run / "figures").glob(f"{kind}-T*.png"):
                shutil.copy(picture, KEPT / f"{run.name}-{picture.name}")


def joined(kept: dict[str, Any], rest: dict[str, Any]) -> dict[str, Any]:
    """A study with the defenses of another run in the same situation.

    Raises:
        SystemExit: if the situations differ, or what the adversaries make of undefended vectors.
    """
    own, other = kept["configuration"], rest["configuration"]
    asked = ("methods", "checked_methods", "worst_case_methods")
    if differing := [name for name in own if name not in asked and own[name] != other[name]]:
        raise SystemExit(f"expected two runs in one situation, they differ in {differing}")
    summary = {}
    for temperature, part in kept["summary"].items():
        defenses, added = part["defenses"], rest["summary"][temperature]["defenses"]
        bare, again = (group["none"]["A3.mse"]["mean"] for group in (defenses, added))
        if abs(bare - again) > 0.001 * bare:
            raise SystemExit(f"expected one undefended MSE, got {bare:.5f} and {again:.5f}")
        summary[temperature] = part | {"defenses": added | defenses}
    known = {method["name"] for method in own["methods"]}
    new = [method for method in other["methods"] if method["name"] not in known]
    configuration = own | {"methods": own["methods"] + new}
    return kept | {"configuration": configuration, "summary": summary}


def table(methods: Sequence[dict[str, Any]], measured: dict[str, Any]) -> str:
    """The methods in the order of g3."""
    ranked = sorted(methods, key=lambda method: -measured[method["name"]]["A3.gain"]["mean"])
    lines = []
    for method in ranked:
        # Without a budget the strength is part of the name.
        title = method["name"] if budget_of(method) is None else method["family"]
        lines.append(row(title, measured[method["name"]]))
    return COLUMNS + "".join(lines)


def state(kept: dict[str, Any]) -> str:
    """What differs in a study that an older version ran; nothing of one that this one did."""
    bare = next(iter(kept["summary"].values()))["defenses"]["none"]
    if kept["configuration"]["adversary"].get("deep_floor") is None:
        said = "adversaries looked at no entries below 1e-6 ([decision 11](decisions/0011-small-entries.md))"
    elif "variant.mean of all MLPs" not in bare:
        said = "the mean of the MLPs is that of all"
        if bare["denoiser.gain"]["mean"] is None:
            said += ", and the denoiser, which looked down to 1e-6 alone, is left out"
    else:
        return ""
    return f"Run by an older version: {said}.\n\n"


def strongest(part: dict[str, Any]) -> str:
    """Behind how many of the defenses each variant of A3 errs least."""
    behind: Counter[str] = Counter()
    for name, measured in part["defenses"].items():
        errors = {
            key.removeprefix("variant."): value["mean"]
            for key, value in measured.items()
            if key.startswith("variant.") and not key.endswith("trained clean")
        }
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
        return f"The decoders make no more of undefended vectors ({bare:.4f}) than of their labels ({ceiling:.4f}).\n\n"
    gains = {m["name"]: (error(m["name"]) - bare) / (ceiling - bare) for m in methods}
    names = sorted((name for name in gains if name != "none"), key=lambda name: -gains[name])
    lines = [
        f"**By the better decoder of each defense alone** (undefended MSE {bare:.4f})\n\n",
        "| defense | gain | g3 of all |\n|---|---|---|\n",
    ]
    for name in names:
        everyone = part["defenses"][name]["A3.gain"]["mean"]
        lines.append(f"| {name} | {gains[name]:.2f} | {everyone:.2f} |\n")
    return "".join(lines) + "\n"


# Where docs/defenses.md shows numbers: the study, its temperature, and the budget.
SHOWN = (
    ("standard", "3", 0.1),
    ("study-mnist", "4", 0.1),
    ("study-mnist-confident", "1", 0.03),
    ("study-faces", "4", 0.1),
)


def in_numbers(studies: dict[str, dict[str, Any]]) -> str:
    """A line a family: g2 / g3 / median and the realised mean l1 in each study, and the cost on digits."""
    shown = [entry for entry in SHOWN if entry[0] in studies]
    heads = [f"{TITLES[name]}, T = {heat}, budget {budget:g}" for name, heat, budget in shown]
    found: dict[str, dict[str, str]] = {}
    costs: dict[str, str] = {}
    for name, temperature, budget in shown:
        kept = studies[name]
        for method in kept["configuration"]["methods"]:
            own = budget_of(method)
            if method["name"] == "none" or own not in (None, budget):
                continue
            title = method["name"] if own is None else method["family"]
            measured = kept["summary"][temperature]["defenses"][method["name"]]
            gains = " / ".join(
                mean_alone(measured[key]) for key in ("A2.gain", "A3.gain", "A3.median")
            )
            found.setdefault(title, {})[name] = (
                f"{gains} ({measured['utility.l1_mean']['mean']:.3f})"
            )
            if name == "standard":
                fit, row = (
                    measured[f"cost.{key}"] for key in ("fit_seconds", "microseconds_per_row")
                )
                costs[title] = f"{fit['mean']:.1f} | {row['mean']:.0f}"
    lines = ["| defense | " + " | ".join(heads) + " | fit, s | µs a row |\n"]
    lines.append("|---" * (len(heads) + 3) + "|\n")
    for title, cells in found.items():
        row_of = " | ".join(cells.get(name, "–") for name, *_ in shown)
        lines.append(f"| {title} | {row_of} | {costs.get(title, '– | –')} |\n")
    made = studies["standard"]["environment"]
    lines.append(
        f"\nTimes: digits, T = 3, {made['processor']}, one thread, the other core at the same work, {made['date']}.\n"
    )
    return "".join(lines)


def write_between(page: Path, start: str, end: str, text: str) -> None:
    """Replaces what stands between two marks."""
    before, rest = page.read_text().split(start)
    _, after = rest.split(end)
    page.write_text(f"{before}{start}\n{text}{end}{after}")


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
    """How long a cell took, where the run is of a version that says so."""
    seconds = kept.get("seconds")
    return (
        f" A cell took {median(seconds) / 60:.0f} minutes of one core (median)." if seconds else ""
    )


def section(name: str, kept: dict[str, Any]) -> str:
    """A study: its conditions, its adversaries' sanity, its tables and its picture."""
    configuration, environment = kept["configuration"], kept["environment"]
    methods = configuration["methods"]
    budgets = budgets_of(methods)
    lines = [f"\n## {TITLES[name]}\n\n{described(configuration)}."]
    lines.append(f" {adversaries(configuration)}{lasted(kept)}\n\n")
    lines.append(state(kept))
    for temperature, part in kept["summary"].items():
        bare, floors = part["defenses"]["none"], part["floors"]
        doubled = part["doubled_epochs"]["none"]
        lines.append(
            f"**T = {temperature}**, target {configuration['target']} "
            f"(accuracy on victims {part['target']['accuracy']['mean']:.3f}, the evaluator's "
            f"{part['target']['evaluator_accuracy']['mean']:.3f}), seeds {part['seeds']}, "
            f"{environment['processor']}, {environment['date']}. Undefended MSE: A2 {bare['A2.mse']['mean']:.4f}, "
            f"A3 {bare['A3.mse']['mean']:.4f}; label only {floors['label_only']['mean']:.4f}; "
            f"the mean of all {floors['global_mean']['mean']:.4f}, "
            f"of the true class {floors['class_mean']['mean']:.4f}; "
            f"twice the epochs change A2 by {doubled['A2.change']['mean']:+.1%} and A3 by "
            f"{doubled['A3.change']['mean']:+.1%}.\n\n"
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
        for kind, what in PICTURED.items():
            picture = KEPT / f"{name}-{kind}-T{temperature}.png"
            if picture.exists():
                lines.append(folded(f"{what}, T = {temperature}", f"study/{picture.name}"))
        worst = worst_cases_table(part)
        if worst:
            lines.append(
                f"*Who asks again, and who knows more* ([how](#what-the-key-is-worth))\n{worst}\n"
            )
    lines.append(f"![{TITLES[name]}: gain against mean l1](study/{name}.png)\n")
    if (KEPT / f"{REST.get(name)}.json").exists():
        lines.append(
            f"\n![{TITLES[name]}, the rest of the defenses: gain against mean l1](study/{REST[name]}.png)\n"
        )
    return "".join(lines)


if __name__ == "__main__":
    for path in sys.argv[1:]:
        if path.endswith(".json"):
            shutil.copy(path, KEPT)
        else:
            keep(Path(path))
    found = {name: KEPT / f"{name}.json" for name in TITLES}
    studies = {name: json.loads(file.read_text()) for name, file in found.items() if file.exists()}
    for name, rest in REST.items():
        file = KEPT / f"{rest}.json"
        if name in studies and file.exists():
            studies[name] = joined(studies[name], json.loads(file.read_text()))
    sections = [able(studies, TITLES), *(section(name, kept) for name, kept in studies.items())]
    missing = [f"`{name}` ({title})" for name, title in TITLES.items() if name not in studies]
    missing += [
        f"`{rest}` (the rest of the defenses of: {TITLES[name]})"
        for name, rest in REST.items()
        if not (KEPT / f"{rest}.json").exists()
    ]
    if missing:
        sections.insert(0, f"\n**Not run yet:** {', '.join(missing)}.\n")
    write_between(
        DEFENSES, "<!-- numbers: docs/results_page.py -->", "<!-- end -->", in_numbers(studies)
    )
    retrained = KEPT / "retrained.json"
    if retrained.exists():
        sections.append(retrained_section(json.loads(retrained.read_text())))
    keys = KEPT / "keys.json"
    if keys.exists():
        kept = json.loads(keys.read_text())
        draw_keys(kept, KEPT / "keys.png")
        sections.append(keys_section(kept))
    PAGE.write_text(HEAD + "".join(sections))
