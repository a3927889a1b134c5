"""The command line of studies that run one trial a seed and keep a CSV file."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from csv_rows import Row, write_rows
from joblib import Parallel, delayed

from mipoison.eval.presets import STANDARD
from mipoison.eval.run.environment import describe_environment


def run_trials(trial: Callable[[int], list[Row]], doc: str, file: Path) -> None:
    """Reads --jobs, --seeds and --out, runs the seeds side by side, and writes their rows.

    Args:
        trial: a seed's rows.
        doc: the study's own text, whose first line is told by --help.
        file: where the rows go by default.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(STANDARD.seeds))
    parser.add_argument("--out", type=Path, default=file)
    given = parser.parse_args()
    trials = Parallel(n_jobs=given.jobs)(delayed(trial)(seed) for seed in given.seeds)
    rows = [row for found in trials for row in found]
    write_rows(given.out, rows, describe_environment(jobs=given.jobs))
