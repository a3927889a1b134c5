"""The tables of docs/guides/operate.md: what `studies/serve_load.py` measured."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from statistics import median
from typing import TypeAlias

from csv_rows import read_rows
from serve_load import FAULTS, OVERHEAD

Rows: TypeAlias = Sequence[dict[str, str]]


def serve_section() -> str:
    """Times beside those of the model server alone, and what became of requests under faults."""
    return times(read_rows(OVERHEAD)) + answers(read_rows(FAULTS))


def times(rows: Rows) -> str:
    """A line for each number of workers and clients: medians over rounds; nothing without rows."""
    if not rows:
        return ""
    rounds = len({row["round"] for row in rows})
    lines = [
        paragraph(
            f"Milliseconds of a request for one row, medians of {rounds} rounds; in each the clients ask the model "
            f"server and then the proxy. {conditions(rows)}"
        ),
        "| workers | clients | bare p50 | proxy p50 | bare p99 | proxy p99 | bare requests/s | proxy requests/s |\n",
        "|---" * 8 + "|\n",
    ]
    cells: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in rows:
        cells.setdefault((row["workers"], row["clients"]), []).append(row)
    for (workers, clients), measured in cells.items():
        numbers = [
            median(float(row[name]) for row in measured if row["way"] == way)
            for name in ("p50_ms", "p99_ms", "per_s")
            for way in ("bare", "proxy")
        ]
        shown = [f"{x:.1f}" for x in numbers[:4]] + [f"{x:.0f}" for x in numbers[4:]]
        lines.append(f"| {workers} | {clients} | {' | '.join(shown)} |\n")
    return "".join(lines)


def answers(rows: Rows) -> str:
    """A line for each run under faults; nothing without rows."""
    if not rows:
        return ""
    lines = [
        "\n",
        paragraph(
            "What became of requests. Every answer was compared with what the defense gives for its rows. The last six "
            "digits of each of the model server's numbers are its row's number, so that one that leaves is known. "
            + conditions(rows)
        ),
        "| run | workers | requests | defended | label alone | refused | undefended | wrong | lost | errors |\n",
        "|---" * 10 + "|\n",
    ]
    names = ("requests", "defended", "label", "refused", "undefended", "wrong", "broken")
    for row in rows:
        counted = " | ".join(f"{int(row[name]):,}" for name in names)
        errors = row["statuses"].replace(" ", ", ").replace(":", ": ") or "none"
        lines.append(f"| {row['run']} | {row['workers']} | {counted} | {errors} |\n")
    return "".join(lines)


def paragraph(text: str) -> str:
    """Text in lines of 120, and an empty one."""
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False) + "\n\n"


def conditions(rows: Rows) -> str:
    """Under which all rows were measured."""
    first = rows[0]
    loads = [float(row["load"]) for row in rows]
    return (
        f"{first['defense']}, K = {first['classes']}; model server, clients and proxy on one machine with "
        f"{first['cores']} cores and a load of {min(loads):.0f} to {max(loads):.0f} ({first['date']}, "
        f"{first['processor']})."
    )
