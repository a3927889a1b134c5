"""The command line of studies that run trials of a seed each and keep a CSV file."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from csv_rows import Row, read_rows, write_rows
from joblib import Parallel, delayed

from mipoison.eval.presets import STANDARD
from mipoison.eval.run.environment import describe_environment


def run_trials(
    trials: Sequence[Callable[[int], list[Row]]],
    doc: str,
    file: Path,
    *,
    faces: Sequence[Callable[[Path, int], list[Row]]] = (),
) -> None:
    """Reads --jobs, --seeds, --out and --lfw, runs the trials of all seeds side by side, and writes their rows.

    Args:
        trials: a seed's rows in a setting each.
        doc: the study's own text, whose first line is told by --help.
        file: where the rows go by default.
        faces: what needs the folder of --lfw too. Without that folder these rows of the file stay as they are: those
            whose first column no other trial wrote.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(STANDARD.seeds))
    parser.add_argument("--out", type=Path, default=file)
    if faces:
        parser.add_argument("--lfw", type=Path, help="a folder with faces of LFW and their logits")
    given = parser.parse_args()
    folder = given.lfw if faces else None
    tasks = [delayed(trial)(seed) for trial in trials for seed in given.seeds]
    if folder is not None:
        tasks += [delayed(trial)(folder, seed) for trial in faces for seed in given.seeds]
    environment = describe_environment(jobs=given.jobs)
    rows = [row for found in Parallel(n_jobs=given.jobs)(tasks) for row in found]
    kept: list[Row] = []
    if faces and folder is None:
        first = next(iter(rows[0]))
        made = {str(row[first]) for row in rows}
        kept = [dict(row) for row in read_rows(given.out) if row[first] not in made]
    write_rows(given.out, [*rows, *kept], environment)
