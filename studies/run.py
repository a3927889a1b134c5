"""Runs studies and keeps their numbers in `studies/numbers`.

    python studies/run.py [--jobs JOBS] [--out runs/study] [--lfw FOLDER] NAME...

An interrupted study goes on where it was; the cells of a finished one are not run again. Each leaves a report of its
own in its folder.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from kept import NUMBERS
from presets import STUDIES, in_folder
from rich.console import Console

from mipoison.eval.report import leaderboard
from mipoison.eval.report.report import write_report
from mipoison.eval.report.results_file import RESULTS
from mipoison.eval.run.experiment import run


def run_study(name: str, out: Path, jobs: int, faces: Path) -> None:
    """Runs a study, writes its report and keeps its numbers, and nothing of where the faces lie.

    Raises:
        SystemExit: if a cell failed, or the run was interrupted.
    """
    outcome = run(in_folder(STUDIES[name], faces), out, jobs=jobs, console=Console(stderr=True))
    if not outcome.complete:
        raise SystemExit(
            "\n".join(outcome.failed.values()) or f"{name}: interrupted; run it again to go on"
        )
    write_report(out)
    results = json.loads((out / RESULTS).read_text())
    results["configuration"]["dataset"] = STUDIES[name].dataset
    leaderboard.add(results, NUMBERS, name)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+", metavar="NAME", choices=STUDIES)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/study"))
    parser.add_argument("--lfw", type=Path, default=Path("lfw"), metavar="FOLDER")
    given = parser.parse_args()
    for study in given.names:
        run_study(study, given.out / study, given.jobs, given.lfw)
