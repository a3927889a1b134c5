"""What a defense is expected to do to fresh rows, measured on rows that it was not fitted on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn

from mipoison.defenses.bank import Bank
from mipoison.defenses.clean import cleaned
from mipoison.ops import banks
from mipoison.ops.answers import read_back
from mipoison.ops.numbers import as_count, as_flag, as_number
from mipoison.ops.rows import distance
from mipoison.reference import valid_rows

# A row counts as unchanged within this l1 distance of its clean row, plus so many units of the dtype's precision, to
# which the answer is rounded.
UNCHANGED: Final = 1e-5
_ULPS: Final = 2
# A row counts as far from the bank beyond the distance that this share of the kept-out rows keep within.
NEAR: Final = 0.9
# A row is compared with at most so many bank vectors of its label, as the equilibrium does.
_MOST: Final = 256


class Measured(NamedTuple):
    """What was measured of the valid rows of a batch; float64 [n].

    Attributes:
        l1: ‖q − p‖₁ of the answer and the clean row.
        rounding: a row whose l1 is at most this is unchanged.
        distance: l1 from the row to the nearest bank vector of its label that is not the row itself; None without a
            bank.
        invalid: rows that are no probability vectors, which nothing was measured of.
    """

    l1: Tensor
    rounding: float
    distance: Tensor | None
    invalid: int


def bank_of(defense: nn.Module) -> Bank | None:
    """The bank that a defense holds, if any."""
    return next((part for part in defense.modules() if isinstance(part, Bank)), None)


def measure(p: Tensor, q: Tensor, bank: Bank | None) -> Measured:
    """Measures answers q to rows p as they came, both [N, K] of one dtype; reads back which rows are valid."""
    rows, count = cleaned(p)
    invalid = read_back(count)
    answers = q.to(rows.dtype)
    if invalid > 0:
        valid = valid_rows(p)
        rows, answers = rows[valid], answers[valid]
    l1 = distance(answers, rows, "l1")
    rounding = UNCHANGED + _ULPS * torch.finfo(p.dtype).eps
    far = None
    if bank is not None:
        single = rows.to(torch.float32)
        word = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
        # (The first subset keeps every vector, so that the word does not matter.)
        nearest = banks.nearest(single, bank.grouped, word, slots=bank.slots(_MOST), subsets=1)
        far = distance(nearest.squeeze(1), single, "l1")
    return Measured(l1, rounding, far, invalid)


@dataclass(frozen=True)
class Expected:
    """What fresh rows like those that it was measured on are expected to do.

    Attributes:
        rows: how many rows it was measured on, ≥ 2.
        kept_out: whether the defense was not fitted on them. What fresh rows do is less certain where it was.
        l1: their mean l1 move, in [0, 2].
        deviation: standard deviation of a row's l1 move.
        unchanged: share of rows that stay, in [0, 1].
        distance: median l1 distance of a row to the nearest bank vector of its label; None without a bank.
        far: the distance that nine rows in ten keep within; None without a bank.
    """

    rows: int
    kept_out: bool
    l1: float
    deviation: float
    unchanged: float
    distance: float | None = None
    far: float | None = None

    def __post_init__(self) -> None:
        """Checks the numbers, which may come from a file."""
        as_count("rows", self.rows, 2)
        as_flag("kept_out", self.kept_out)
        for name, most in (("l1", 2.0), ("deviation", 2.0), ("unchanged", 1.0)):
            as_number(name, getattr(self, name), 0.0, most)
        for name in ("distance", "far"):
            if getattr(self, name) is not None:
                as_number(name, getattr(self, name), 0.0)

    @classmethod
    def of(
        cls,
        answered: Sequence[tuple[Callable[[Tensor], Tensor], Tensor, Bank | None]],
        *,
        kept_out: bool = True,
    ) -> Expected | None:
        """Measures defenses on rows; None where there are fewer than two.

        Args:
            answered: each a defense, rows [N, K] and the bank that distances are measured to.
            kept_out: whether these defenses were not fitted on the rows.
        """
        found = [measure(rows, defense(rows), bank) for defense, rows, bank in answered]
        if sum(len(some.l1) for some in found) < 2:
            return None
        l1 = torch.cat([some.l1 for some in found]).double()
        unchanged = torch.cat([some.l1 <= some.rounding for some in found])
        distances = [some.distance for some in found if some.distance is not None]
        median = far = None
        if distances:
            away = torch.cat(distances).double().sort().values
            # (The smallest distance that at least this share of the rows keep within.)
            median, far = (float(away[math.ceil(share * len(away)) - 1]) for share in (0.5, NEAR))
        return cls(
            rows=len(l1),
            kept_out=kept_out,
            l1=min(2.0, float(l1.mean())),
            deviation=float(l1.std()),
            unchanged=float(unchanged.double().mean()),
            distance=median,
            far=far,
        )


NAMES: Final = tuple(Expected.__dataclass_fields__)


def as_numbers(expected: Expected | None) -> list[float]:
    """As floats for a state_dict, in the order of NAMES; NaN for what there is none of."""
    values = [None if expected is None else getattr(expected, name) for name in NAMES]
    return [math.nan if value is None else float(value) for value in values]


def from_numbers(numbers: Sequence[float]) -> Expected | None:
    """What `as_numbers` was given.

    Raises:
        ValueError: for numbers out of range.
    """
    found = dict(zip(NAMES, (None if math.isnan(x) else x for x in numbers), strict=True))
    return None if found["rows"] is None else _made(found)


def from_settings(value: Any) -> Expected | None:
    """What `dataclasses.asdict` of it, or None, came back as from a file.

    Raises:
        ValueError: for anything else.
    """
    if value is None:
        return None
    if not isinstance(value, Mapping) or set(value) != set(NAMES):
        raise ValueError(
            f"expected {', '.join(NAMES)} of what fresh rows do, got others: another version of mipoison saved it"
        )
    return _made(value)


def _made(found: Mapping[str, Any]) -> Expected:
    # (In a state_dict these two are floats.)
    rows, kept_out = found["rows"], found["kept_out"]
    whole = {
        "rows": int(rows) if rows == int(rows) else rows,
        "kept_out": bool(kept_out) if kept_out in (0, 1) else kept_out,
    }
    return Expected(**{**found, **whole})
