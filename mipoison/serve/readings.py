"""What a meter has read: plain numbers, which add up over processes."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from mipoison.defenses.expected import Expected

# Upper bounds of the bins of l1 lengths, which are at most 2: sixteen bins to every factor of two, so that a quantile
# read off a bound lies at most 4.5 % above the true one. The first bin takes what is below 0.0001.
_TO_A_DOUBLING: Final = 16
_BINS: Final = 230
BOUNDS: Final = tuple(2.0 ** (1 - i / _TO_A_DOUBLING) for i in reversed(range(_BINS)))
# Lengths are counted in whole numbers of this unit, 2⁻²⁶: their sums are exact, whatever the order, up to 2²⁷.
UNIT: Final = 2.0**-26
# Fields of `Readings` that add up.
_COUNTS: Final = (
    *("rows", "batches", "failures", "errors"),
    *("withheld", "callback_errors", "alarms", "drifting"),
)
_EDGES: Final = np.array(BOUNDS) / UNIT
_LIST: Final = _EDGES.tolist()


def bins_of(units: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How many of the lengths, in units, lie in each bin; what exceeds 2 by rounding is in the last."""
    place = np.searchsorted(_EDGES, units).clip(max=_BINS - 1)
    return np.bincount(place, minlength=_BINS)


def bin_of(units: int) -> int:
    """The bin of one length; the same in a fraction of the time."""
    return min(bisect_left(_LIST, units), _BINS - 1)


@dataclass(frozen=True)
class Lengths:
    """A sum of l1 lengths and how they are distributed; all zero where there are none.

    Attributes:
        total: their sum, each rounded to 2⁻²⁶.
        mean: their mean.
        p50: a length that half of them do not exceed: a bound of the bins, so at most 4.5 % too large above 0.0001.
        p90: the same of nine tenths.
        p99: the same of 99 in a hundred.
        most: the largest.
        bins: how many lie at or below each of `BOUNDS` and above the one before.
    """

    total: float
    mean: float
    p50: float
    p90: float
    p99: float
    most: float
    bins: tuple[int, ...]

    @classmethod
    def of(cls, total: float, most: float, bins: Sequence[int]) -> Lengths:
        """Computes what follows from sum, largest and bins."""
        counted = tuple(int(some) for some in bins)
        count = sum(counted)

        def quantile(share: float) -> float:
            if count == 0:
                return 0.0
            rank = math.ceil(share * count)
            place = int(np.searchsorted(np.cumsum(counted), rank))
            return float(min(BOUNDS[place], most))

        mean = total / count if count else 0.0
        return cls(total, mean, quantile(0.5), quantile(0.9), quantile(0.99), most, counted)

    @classmethod
    def merge(cls, many: Sequence[Lengths]) -> Lengths:
        """What one would have read of all of them."""
        bins = [sum(some) for some in zip(*(one.bins for one in many), strict=True)]
        return cls.of(math.fsum(one.total for one in many), max(one.most for one in many), bins)


@dataclass(frozen=True)
class Traffic:
    """Measurements of valid rows.

    Attributes:
        rows: how many.
        unchanged: those that the defense left as they were, up to rounding: ‖q − p‖₁ ≤ 1e-5 + 2 units of the
            precision of the rows' dtype, p the renormalised row.
        far: those farther from the bank than nine in ten of the rows that were kept out of the fit; 0 where that is
            not known.
        share_unchanged: unchanged / rows; 0 before the first.
        share_far: far / rows; 0 before the first.
        l1: the moves ‖q − p‖₁.
        distance: from each row to the nearest bank vector of its label that is not the row itself; None where the
            defense has no bank.
    """

    rows: int
    unchanged: int
    far: int
    share_unchanged: float
    share_far: float
    l1: Lengths
    distance: Lengths | None

    @classmethod
    def of(
        cls, rows: int, unchanged: int, far: int, l1: Lengths, distance: Lengths | None
    ) -> Traffic:
        """Computes the shares."""
        some = max(1, rows)
        return cls(rows, unchanged, far, unchanged / some, far / some, l1, distance)

    @classmethod
    def merge(cls, many: Sequence[Traffic]) -> Traffic:
        """What one would have read of all of them."""
        distances = [one.distance for one in many if one.distance is not None]
        return cls.of(
            sum(one.rows for one in many),
            sum(one.unchanged for one in many),
            sum(one.far for one in many),
            Lengths.merge([one.l1 for one in many]),
            Lengths.merge(distances) if distances else None,
        )


@dataclass(frozen=True)
class Readings:
    """What a meter, or several together, have read; `dataclasses.asdict` gives plain numbers, lists and texts.

    Attributes:
        rows: rows answered since the start, invalid ones among them.
        batches: calls answered.
        failures: rows that were no probability vectors and were answered by their label alone.
        errors: calls that raised and were not answered, but for those refused because of drift.
        withheld: rows whose answer was replaced by its label, or refused, because of drift.
        callback_errors: callbacks that raised.
        alarms: times that drift began.
        drifting: how many of the meters see drift now; 0 or 1 of one.
        reason: what they see; "" without drift.
        since_start: the valid rows since the start.
        window: the last valid rows, as many as the window holds; of several meters, the windows together.
        expected: what the fit expects fresh rows to do; None where it is not known, or where meters differ.
    """

    rows: int
    batches: int
    failures: int
    errors: int
    withheld: int
    callback_errors: int
    alarms: int
    drifting: int
    reason: str
    since_start: Traffic
    window: Traffic
    expected: Expected | None

    @classmethod
    def merge(cls, many: Iterable[Readings]) -> Readings:
        """What one meter would have read of all the traffic: counts, sums, maxima and bins are exact.

        Raises:
            TypeError: for anything but readings.
            ValueError: for no readings.
        """
        several = list(many)
        for one in several:
            if not isinstance(one, Readings):
                raise TypeError(
                    f"expected readings to merge, got {type(one).__name__}; make them with Readings.from_dict"
                )
        if not several:
            raise ValueError("expected readings to merge, got none")
        added = {name: sum(getattr(one, name) for one in several) for name in _COUNTS}
        same = all(one.expected == several[0].expected for one in several)
        return cls(
            **added,
            reason="; ".join(dict.fromkeys(one.reason for one in several if one.reason)),
            since_start=Traffic.merge([one.since_start for one in several]),
            window=Traffic.merge([one.window for one in several]),
            expected=several[0].expected if same else None,
        )

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Readings:
        """What `dataclasses.asdict` gave, also after JSON: for the readings of other processes.

        Raises:
            TypeError: if it is no mapping.
            KeyError: if it lacks a field.
        """
        if not isinstance(plain, Mapping):
            raise TypeError(f"expected what dataclasses.asdict gave, got {type(plain).__name__}")
        given = {field.name: plain[field.name] for field in fields(cls)}
        for name in ("since_start", "window"):
            given[name] = _traffic(given[name])
        if given["expected"] is not None:
            given["expected"] = Expected(**given["expected"])
        return cls(**given)


def _traffic(plain: Mapping[str, Any]) -> Traffic:
    lengths = {name: plain[name] for name in ("l1", "distance")}
    made = {
        name: None if value is None else Lengths(**{**value, "bins": tuple(value["bins"])})
        for name, value in lengths.items()
    }
    return Traffic(**{**plain, **made})
