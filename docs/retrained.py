"""Runs the study of targets that are trained to leak less, each way at four strengths, and writes its numbers.

    python docs/retrained.py runs/study/retrained.json [JOBS]

Digits at T = 3, nothing poisoned, seeds 0-2; part of `make study`. Each target is a run of its own in the folder
runs/study/retrained: what is finished there is not run again. docs/results_page.py writes the page.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from mipoison.eval.environment import together
from mipoison.eval.experiment import run
from mipoison.eval.presets import DEMO, LABEL_ONLY, NONE
from mipoison.eval.run_folder import RESULTS

STRENGTHS = {
    "nls": (-0.05, -0.1, -0.2, -0.4),
    "vib": (0.01, 0.03, 0.1, 0.3),
    "bido": (0.05, 0.1, 0.2, 0.3),
}
PLAIN = replace(DEMO, temperatures=(3.0,), methods=(NONE, LABEL_ONLY), checked_methods=("none",))


Found = list[dict[str, Any]]


def trials(target: str, folder: Path, jobs: int) -> tuple[Found, Found]:
    """What each seed's target is worth and leaks undefended, and the environments in which that was found.

    Raises:
        SystemExit: if a cell failed.
    """
    outcome = run(replace(PLAIN, target=target), folder, jobs=jobs)
    if not outcome.complete:
        raise SystemExit("\n".join(outcome.failed.values()) or f"{target} was interrupted")
    found = []
    results = json.loads((folder / RESULTS).read_text())
    for cell in results["cells"]:
        attacks = cell["defenses"]["none"]["attacks"]
        found.append(
            {
                "seed": cell["seed"],
                "accuracy": cell["target"]["accuracy"],
                "label_only": cell["floors"]["label_only"],
                **{family: attacks[family]["mse"] for family in ("A2", "A3")},
                "identity": attacks["A3"]["identity"],
            }
        )
    return found, [cell["environment"] for cell in results["cells"]]


if __name__ == "__main__":
    out, jobs = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1
    targets = ["mlp"]
    targets += [f"mlp+{way}:{s:g}" for way, own in STRENGTHS.items() for s in own]
    found = {target: trials(target, out.with_suffix("") / target, jobs) for target in targets}
    kept = {
        "environment": together(
            [one for _, environments in found.values() for one in environments]
        ),
        "temperature": PLAIN.temperatures[0],
        "targets": {target: of_seeds for target, (of_seeds, _) in found.items()},
    }
    out.write_text(json.dumps(kept, indent=1) + "\n")
