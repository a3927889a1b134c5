"""The ratios of a session's races, as lines that a person can read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tables import integer, number


def race(name: str, found: dict[str, Any]) -> tuple[str, str, str]:
    """The name of a race, the time of ours, and the ratio to each contestant."""
    ours = next(iter(found["seconds"].values()))
    if found["group"].endswith("latency"):
        time = f"{number(ours * 1e6)} µs a call"
    else:
        time = f"{number(ours / found['n'] * 1e9)} ns a row"
    ratios = (
        f"{number(ratio)} × {pair.split(' / ', 1)[1]}" for pair, ratio in found["ratios"].items()
    )
    return name.removeprefix("test_"), time, " · ".join(ratios)


def lines(races: Iterable[tuple[str, dict[str, Any]]]) -> list[str]:
    """A line for each race; a ratio of 0.5 says that ours takes half of the time."""
    rows = [race(name, found) for name, found in races if "ratios" in found]
    if not rows:
        return []
    widths = [max(len(row[i]) for row in rows) for i in (0, 1)]
    return [
        f"{integer(len(rows))} races; the time of ours, and that as a multiple of each other's",
        *(f"{name:<{widths[0]}}  {time:>{widths[1]}}  {ratios}" for name, time, ratios in rows),
    ]
