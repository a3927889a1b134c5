"""Runs studies and keeps their numbers in `studies/numbers`.

    python studies/run.py [--jobs JOBS] [--out runs/study] [--lfw FOLDER] NAME...

An interrupted study goes on where it was, and finished cells are not run again, unless the package has changed.
Each leaves a report of its own in its folder.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
from contextlib import suppress
from pathlib import Path

from kept import NUMBERS
from presets import STUDIES, in_folder
from rich.console import Console

import mipoison
from mipoison.eval.report import leaderboard
from mipoison.eval.report.report import write_report
from mipoison.eval.report.results_file import RESULTS
from mipoison.eval.run.experiment import run
from mipoison.eval.run.folder import configuration_in

PACKAGE = Path(mipoison.__file__).parent
# The suffix of a file beside a study's folder: what state of the package runs it.
CODE = ".code"


def forget_other_code(out: Path, package: Path = PACKAGE) -> None:
    """Removes what another state of the package ran: a study must not take its cells for today's."""
    files = sorted(package.rglob("*.py"))
    content = b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files)
    code, kept = hashlib.sha256(content).hexdigest(), out.with_suffix(CODE)
    # (A folder that no run has made is not touched: the run refuses it.)
    if not (kept.exists() and kept.read_text() == code):
        with suppress(FileNotFoundError, ValueError):
            configuration_in(out)
            print(f"{out}: the package has changed since; the study is run anew", file=sys.stderr)
            shutil.rmtree(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(code)


def run_study(name: str, out: Path, jobs: int, faces: Path) -> None:
    """Runs a study, writes its report and keeps its numbers, and nothing of where the faces lie.

    Raises:
        SystemExit: if a cell failed, or the run was interrupted.
    """
    forget_other_code(out)
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
