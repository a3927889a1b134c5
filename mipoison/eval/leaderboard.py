"""One JSON file for each defense in each setting, and a page made of all of them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from mipoison.eval.configuration import Configuration
from mipoison.eval.markdown import COLUMNS, row
from mipoison.eval.results_file import expecting_results, read_json
from mipoison.eval.store import write_json, write_text

PAGE: Final = "README.md"
# Entries of format 1 say neither what a denoiser gains nor whose images the auxiliary rows show.
FORMAT: Final = 2
_HEAD = """# Leaderboard

One table a setting; entries of different settings do not compare. Ordered by the realised mean l1, since a gain says
nothing without it: read upwards from the distortion that you can bear. Written by `mipoison leaderboard FOLDER` out of
the JSON in the folders beside it, one file a defense.

*g2* is the gain under an MLP that learns from defended vectors, *g3* under the strongest adversary on the victims: 0
where nothing is won, 1 where only the label still leaks. *Median* and *worst decile* are of the victims' own gains
under that one, *denoiser* is the gain under who holds undefended answers too, counted from their own undefended error,
*all* under the stronger of the two, counted from the smaller, *identity* the share of g3's reconstructions that an
independent classifier takes for the victim's class, *largest* is the largest l1 of a victim, *unchanged* the
share of victims served as they were; *fit* and *µs* a row are on one thread. Mean ± sd over the seeds. A dash: for some
seed, that adversary makes no more of undefended vectors than of their labels, and measures no defense.
"""


def entries(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every defense of a run, in every setting.

    Args:
        results: what results.json holds; its cells are not needed.

    Returns:
        JSON values: "format", "defense" (as the configuration has it), "setting" (all that an entry's numbers hold
        for), "measured" (name to mean, sd, min and max over the seeds), "environment".
    """
    # There and back: what an older run does not say has its default.
    configuration = Configuration.from_json(results["configuration"]).to_json()
    shared = {
        name: configuration[name] for name in ("dataset", "target", "target_epochs", "auxiliary")
    }
    made = []
    for temperature, group in results["summary"].items():
        setting = shared | {
            "temperature": float(temperature),
            "seeds": group["seeds"],
            "adversary": configuration["adversary"],
        }
        made += [
            {
                "format": FORMAT,
                "defense": method,
                "setting": setting,
                "measured": {
                    name: {part: _rounded(value) for part, value in statistic.items()}
                    for name, statistic in group["defenses"][method["name"]].items()
                },
                "environment": results["environment"],
            }
            for method in configuration["methods"]
        ]
    return made


def add(results: Mapping[str, Any], folder: Path) -> list[Path]:
    """Writes a run's entries; one of the same defense in the same setting is replaced.

    Raises:
        ValueError: if the run was not finished.
    """
    if not results.get("complete", True):
        raise ValueError("expected a finished run, got one that lacks cells; run it again")
    written = []
    for entry in entries(results):
        at = folder / _setting_name(entry["setting"]) / f"{_plain(entry['defense']['name'])}.json"
        at.parent.mkdir(parents=True, exist_ok=True)
        write_json(at, entry)
        written.append(at)
    return written


def write_page(folder: Path) -> Path:
    """Writes the page of all entries in the folder.

    Raises:
        FileNotFoundError: if there are none.
        ValueError: if a file is no entry.
    """
    settings: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(folder.glob("*/*.json")):
        entry = read_json(path)
        if entry.get("format") != FORMAT:
            raise ValueError(
                f"expected an entry of format {FORMAT} in {path}, got {entry.get('format')}; remove it, "
                "and add its run anew"
            )
        with expecting_results(path):
            _section([entry])
        settings.setdefault(path.parent.name, []).append(entry)
    if not settings:
        raise FileNotFoundError(f"expected entries in {folder}, found none; give a finished run")
    write_text(folder / PAGE, _HEAD + "".join(map(_section, settings.values())))
    return folder / PAGE


def _rounded(value: float | None) -> float | None:
    """To five digits: more are not worth their bytes."""
    return None if value is None else float(f"{value:.5g}")


def _section(own: Sequence[Mapping[str, Any]]) -> str:
    setting = own[0]["setting"]
    adversary = setting["adversary"]
    losses = f", MLPs for {', '.join(adversary['losses'])}" if adversary["losses"] else ""
    strangers = " Auxiliary rows of other classes." if setting["auxiliary"] == "other" else ""
    # Entries of older versions do not say: there was no such network.
    floor = adversary.get("deep_floor")
    deep = "" if floor is None else f" and {floor:g}"
    decoders = f", decoders ({', '.join(adversary['decoders'])})" if adversary["decoders"] else ""
    ranked = sorted(own, key=lambda entry: entry["measured"]["utility.l1_mean"]["mean"])
    lines = [row(entry["defense"]["name"], entry["measured"]) for entry in ranked]
    return (
        f"\n## {setting['dataset']}, T = {setting['temperature']:g}\n\n"
        f"Target {setting['target']}, {setting['target_epochs']} epochs; "
        f"seeds {', '.join(map(str, setting['seeds']))}. "
        f"Adversaries: MLPs of {adversary['width']} units for {adversary['epochs']} epochs and of "
        f"{adversary['wide_width']} for {adversary['wide_epochs']} (logarithms down to "
        f"{adversary['log_floor']:g}{deep}), nearest neighbours, label only"
        f"{losses}{decoders}.{strangers}\n\n"
        f"{COLUMNS}{''.join(lines)}"
    )


def _setting_name(setting: Mapping[str, Any]) -> str:
    """A folder for each setting, told apart by a hash of all that it says."""
    digest = hashlib.sha256(json.dumps(setting, sort_keys=True).encode()).hexdigest()[:8]
    return _plain(f"{setting['dataset']}-{setting['target']}-T{setting['temperature']:g}-{digest}")


def _plain(name: str) -> str:
    """The name with nothing in it that a file name cannot hold."""
    return re.sub(r"[^\w.+-]+", "_", name)
