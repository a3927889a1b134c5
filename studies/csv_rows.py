"""Small CSV files of a study's own, each row with its day and its processor."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from mipoison.eval.report.results_file import write_text

Row: TypeAlias = dict[str, Any]
_MADE = ("date", "processor")


def write_rows(path: Path, rows: Sequence[Row], environment: Mapping[str, Any]) -> None:
    """Writes rows, floats to five digits, and in what environment they were measured.

    Rows that were read from such a file keep what it says of theirs.
    """
    made = {name: environment[name] for name in _MADE}
    text = io.StringIO()
    writer = csv.DictWriter(text, [*rows[0], *_MADE], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(
            made | {k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()}
        )
    path.parent.mkdir(exist_ok=True)
    write_text(path, text.getvalue())


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows as text; none where the study was not run."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))
