"""Key cells: rows of one cell share their keyed words.

Here rows are softened and the width of cells is set; `mipoison.random` decides which cell a row is in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from torch import Tensor

from mipoison.defenses.lpa.some import some_of
from mipoison.keys import Key
from mipoison.ops.keyed import keyed_bits
from mipoison.ops.rows import soften

# The width at which averaging the answers to eight jittered copies of a query recovers least (decision 9).
GRID: Final = 0.05
# The temperature puts the mean top confidence at this share of the way from 1/K to 1.
_SHARE: Final = 0.45
# Lower than that of the networks' features: saturated rows of one label differ far below that.
_FLOOR: Final = 1e-30
COOLEST: Final = 0.25
HOTTEST: Final = 64.0
_HALVINGS: Final = 30
# The temperature is set on at most this many entries.
_MOST: Final = 1 << 18


@dataclass
class KeyCells:
    """A grid over temperature-scaled rows: rows in one cell share their keyed words.

    A cell must contain the altered copies of one query; otherwise averaging their answers undoes the defense. It must
    not contain all rows of a label; otherwise their answers are one fixed map, which an adversary inverts. A grid over
    confidences does this for a softened classifier, but puts all rows of a confident classifier's label into one cell.
    So the rows are first scaled to the same mean top confidence for every classifier.

    Attributes:
        grid: width of a cell, in units of confidence; 0 for the finest cells, see `row_bits`.
        temperature: the grid lies over p^(1/temperature), normalised.
    """

    grid: float
    temperature: float

    @classmethod
    def of(cls, rows: Tensor) -> KeyCells:
        """Finds the temperature at which the defender's rows [N, K] have the standard mean top confidence."""
        rows = rows[some_of(len(rows), _MOST // rows.shape[1], rows.device)]
        wanted = 1 / rows.shape[1] + _SHARE * (1 - 1 / rows.shape[1])
        low, high = COOLEST, HOTTEST
        for _ in range(_HALVINGS):
            middle = (low * high) ** 0.5
            top = float(soften(rows, middle, _FLOOR).amax(1).double().mean())
            low, high = (middle, high) if top > wanted else (low, middle)
        return cls(GRID, high)

    def words(self, p: Tensor, count: int, *, key: Key) -> Tensor:
        """`count` keyed words for each of the rows [N, K]: int64 [N, count]."""
        seen = soften(p, self.temperature, _FLOOR) if self.grid > 0 else p
        return keyed_bits(seen, key, 0, self.grid, count)
