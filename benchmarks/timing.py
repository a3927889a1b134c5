"""From timings to the seconds that are kept."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence


def median_seconds(
    times: Mapping[str, Sequence[float]], n: int, rows_timed: Mapping[str, int], calls: int
) -> dict[str, float]:
    """Median seconds of one call on n rows, by contestant.

    Args:
        times: seconds of each round, by contestant.
        n: the rows that the seconds are to be of.
        rows_timed: the rows of contestants that got fewer; their seconds grow in proportion.
        calls: calls in one round.
    """
    return {
        name: statistics.median(rounds) / calls * n / rows_timed.get(name, n)
        for name, rounds in times.items()
    }
