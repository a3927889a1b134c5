"""Counts of traffic, whole numbers all of them; the last rows in a ring. Its owner holds a lock."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from mipoison.defenses.expected import Measured
from mipoison.serve.readings import UNIT, Lengths, Traffic, bin_of, bins_of

Whole = npt.NDArray[np.int64]
# The columns of the ring.
_L1, _UNCHANGED, _FAR, _DISTANCE = range(4)


# Batches of at most so many rows are counted row by row, which takes less time than NumPy does to begin.
_FEW: Final = 4


class Counted(NamedTuple):
    """A measured batch, as the ring holds it.

    Attributes:
        columns: int64 [4, n]: l1 in units, unchanged, far, and distance in units (0 without a bank).
        distances: whether there are distances.
        invalid: rows that nothing was measured of.
    """

    columns: Whole
    distances: bool
    invalid: int


def counted(measured: list[Measured], far: float | None) -> Counted:
    """Measurements as whole numbers; a row is far whose distance exceeds `far`, and none where that is None."""
    parts = [_columns(some, math.inf if far is None else far) for some in measured]
    columns = parts[0] if len(parts) == 1 else np.concatenate(parts, 1)
    distances = any(some.distance is not None for some in measured)
    return Counted(columns, distances, sum(some.invalid for some in measured))


def _columns(some: Measured, far: float) -> Whole:
    n = len(some.l1)
    if n <= _FEW:
        l1 = some.l1.tolist()
        away = [0.0] * n if some.distance is None else some.distance.tolist()
        rows = (
            [round(x / UNIT) for x in l1],
            [x <= some.rounding for x in l1],
            [x > far for x in away],
            [round(x / UNIT) for x in away],
        )
        return np.array(rows, np.int64)
    columns = np.zeros((4, n), np.int64)
    lengths = some.l1.cpu().numpy()
    columns[_L1] = np.rint(lengths / UNIT)
    columns[_UNCHANGED] = lengths <= some.rounding
    if some.distance is not None:
        lengths = some.distance.cpu().numpy()
        columns[_DISTANCE] = np.rint(lengths / UNIT)
        columns[_FAR] = lengths > far
    return columns


class _Sum:
    """Lengths in units: their sum, the largest and their bins."""

    def __init__(self) -> None:
        self.total = 0
        self.most = 0
        self.bins = bins_of(np.zeros(0, np.int64))

    def add(self, units: Whole) -> None:
        if len(units) <= _FEW:
            for one in units.tolist():
                self.total += one
                self.most = max(self.most, one)
                self.bins[bin_of(one)] += 1
            return
        self.total += int(units.sum())
        self.most = max(self.most, int(units.max()))
        self.bins += bins_of(units)

    def lengths(self) -> Lengths:
        return Lengths.of(self.total * UNIT, self.most * UNIT, self.bins.tolist())


class Tally:
    """What has been counted since the start, and of the last rows.

    Args:
        window: how many rows the ring holds.
    """

    def __init__(self, window: int) -> None:
        self.batches = self.failures = self.errors = self.withheld = 0
        self.alarms = 0
        self.measured = self.unchanged = self.far = 0
        self.distances = False
        self.l1, self.distance = _Sum(), _Sum()
        self._ring: Final = np.zeros((4, window), np.int64)

    @property
    def rows(self) -> int:
        """Rows answered, invalid ones among them."""
        return self.measured + self.failures

    def add(self, batch: Counted) -> None:
        """Counts an answered batch."""
        self.batches += 1
        self.failures += batch.invalid
        columns = batch.columns
        n = columns.shape[1]
        self.l1.add(columns[_L1])
        self.unchanged += int(np.count_nonzero(columns[_UNCHANGED]))
        if batch.distances:
            self.distances = True
            self.distance.add(columns[_DISTANCE])
            self.far += int(np.count_nonzero(columns[_FAR]))
        size = self._ring.shape[1]
        place, end = self.measured % size, self.measured % size + n
        if end <= size:
            self._ring[:, place:end] = columns
        else:
            index = np.arange(max(0, n - size), n)
            self._ring[:, (place + index) % size] = columns[:, index]
        self.measured += n

    def last(self) -> Whole:
        """The columns of the last rows, int64 [4, ≤ window], in no order."""
        return self._ring[:, : min(self.measured, self._ring.shape[1])]

    def since_start(self) -> Traffic:
        """All valid rows."""
        distance = self.distance.lengths() if self.distances else None
        return Traffic.of(self.measured, self.unchanged, self.far, self.l1.lengths(), distance)

    def window(self) -> Traffic:
        """The last valid rows."""
        ring = self.last()
        l1, distance = _Sum(), _Sum()
        l1.add(ring[_L1])
        if self.distances:
            distance.add(ring[_DISTANCE])
        return Traffic.of(
            ring.shape[1],
            int(ring[_UNCHANGED].sum()),
            int(ring[_FAR].sum()),
            l1.lengths(),
            distance.lengths() if self.distances else None,
        )

    def sample(self) -> tuple[int, float, float, int, int]:
        """Of the last rows: how many, the mean and the deviation of their l1, and how many are unchanged and far."""
        ring = self.last()
        l1 = ring[_L1] * UNIT
        n = len(l1)
        deviation = float(l1.std(ddof=1)) if n > 1 else 0.0
        mean = float(l1.mean()) if n else 0.0
        return n, mean, deviation, int(ring[_UNCHANGED].sum()), int(ring[_FAR].sum())
