"""Reduces the timings of a race to median seconds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence


def median_seconds(
    times: Mapping[str, Sequence[float]], n: int, rows_timed: Mapping[str, int], calls: int
) -> dict[str, float]:
    """Median seconds of one call on n rows, for each contestant.

    Args:
        times: seconds of each round, by contestant.
        n: the number of rows that the seconds are scaled to.
        rows_timed: the rows of contestants that ran on fewer than n; their seconds are scaled up.
        calls: calls in one round.
    """
    return {
        name: statistics.median(rounds) / calls * n / rows_timed.get(name, n)
        for name, rounds in times.items()
    }
