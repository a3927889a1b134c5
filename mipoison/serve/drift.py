"""Whether traffic has left what the fit expects: a test whose false alarms are bounded for any number of rows.

Fresh rows like those that were kept out of the fit have an unknown mean l1 and unknown shares of unchanged and of far
rows. Each is taken to lie in a band around what the kept-out rows had: a tolerance for what a fit misses, plus three
standard errors of the kept-out rows. An alarm needs a window whose mean or share lies outside its band by more than
chance explains at level ALPHA:

    mean:   |m − edge| > √(2 V ln(2/α) / n) + 7 c ln(2/α) / (3 (n − 1))     (Maurer and Pontil 2009, theorem 4)
    share:  n · KL(s ‖ edge) > ln(1/α)                                      (Hoeffding 1963)

with V the window's variance and c the longest move. Both hold for every n, whatever the distribution; rows are taken
to be independent. A band has two edges, but that no row can be too near the bank: five tests, at most 5 ALPHA a look.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from mipoison.defenses.expected import NEAR, Expected

ALPHA: Final = 1e-6
# By how much a fit may miss the mean l1, as a share of it, and a share of rows. For l1 and the share unchanged twice as
# much where they were measured on the fitted rows: fresh ones may spend a third more or less.
_L1: Final = 0.25
_SHARE: Final = 0.1
# Standard errors of the kept-out rows.
_ERRORS: Final = 3.0


class Sample(NamedTuple):
    """Of a window's rows: how many, mean and deviation of their l1, and how many are unchanged and far."""

    rows: int
    l1: float
    deviation: float
    unchanged: int
    far: int


class Band(NamedTuple):
    """An interval."""

    low: float
    high: float

    def holds(self, value: float) -> bool:
        """Whether a value lies in it."""
        return self.low <= value <= self.high


def bands(expected: Expected) -> dict[str, Band]:
    """The bands of the mean l1, the share unchanged and, if known, the share far."""
    root, times = math.sqrt(expected.rows), 1 if expected.kept_out else 2
    miss = times * _L1 * expected.l1 + _ERRORS * expected.deviation / root
    made = {
        "l1": Band(max(0.0, expected.l1 - miss), min(2.0, expected.l1 + miss)),
        "unchanged": _share_band(expected.unchanged, expected.rows, times * _SHARE),
    }
    if expected.far is not None:
        # (A bank vector is not compared with itself: distances of fitted rows are those of fresh ones.)
        made["far"] = Band(0.0, _share_band(1 - NEAR, expected.rows, _SHARE).high)
    return made


def _share_band(share: float, rows: int, tolerance: float) -> Band:
    # (As if one more row of each kind had been seen: none seen does not mean that there are none.)
    sure = (share * rows + 1) / (rows + 2)
    miss = tolerance + _ERRORS * math.sqrt(sure * (1 - sure) / rows)
    return Band(max(0.0, share - miss), min(1.0, share + miss))


def alarm(sample: Sample, expected: Expected, longest: float) -> str | None:
    """What of the sample has left its band beyond chance, in words; None if nothing.

    Args:
        sample: the window's rows.
        expected: what the fit expects.
        longest: the longest l1 move that the defense makes, in (0, 2].
    """
    if sample.rows < 2:
        return None
    band = bands(expected)
    said = []
    chance = math.log(2 / ALPHA)
    slack = sample.deviation * math.sqrt(2 * chance / sample.rows)
    slack += 7 * longest * chance / (3 * (sample.rows - 1))
    low, high = band["l1"]
    if sample.l1 < low - slack or sample.l1 > high + slack:
        said.append(_said("mean l1", sample.l1, band["l1"], f"{expected.l1:.3g}"))
    for name, count, told in (
        ("unchanged", sample.unchanged, expected.unchanged),
        ("far", sample.far, 1 - NEAR),
    ):
        share = count / sample.rows
        if name in band and _beyond(share, sample.rows, band[name]):
            what = "share unchanged" if name == "unchanged" else "share far from the bank"
            said.append(_said(what, share, band[name], f"{told:.2g}"))
    return ", ".join(said) or None


def settled(sample: Sample, expected: Expected) -> bool:
    """Whether the sample lies in all bands."""
    band = bands(expected)
    inside = band["l1"].holds(sample.l1)
    rows = max(1, sample.rows)
    inside = inside and band["unchanged"].holds(sample.unchanged / rows)
    return inside and ("far" not in band or band["far"].holds(sample.far / rows))


def _beyond(share: float, rows: int, band: Band) -> bool:
    if band.holds(share):
        return False
    edge = band.low if share < band.low else band.high
    return rows * _divergence(share, edge) > math.log(1 / ALPHA)


def _divergence(share: float, other: float) -> float:
    """KL(share ‖ other) of two coins."""
    total = 0.0
    for a, b in ((share, other), (1 - share, 1 - other)):
        if a > 0:
            total += a * math.log(a / b) if b > 0 else math.inf
    return total


def _said(what: str, got: float, band: Band, told: str) -> str:
    return f"{what} {got:.3g} instead of {told} ({band.low:.3g} to {band.high:.3g})"
