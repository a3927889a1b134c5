"""Which rows share their keyed words: cells of rows that are brought to one softness first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from mipoison import ops
from mipoison.nn import in_tiles
from mipoison.random import Key

# Coarser than that of the other objectives: eight jittered copies of a query gain least from it.
GRID: Final = 0.05
# How far from 1/K to 1 the mean top confidence lies of the rows that cells are laid over.
_SHARE: Final = 0.45
# Saturated rows of one label differ far below what networks are shown.
_FLOOR: Final = 1e-30
_COOLEST: Final = 0.25
_HOTTEST: Final = 64.0
_HALVINGS: Final = 30
# Entries that the temperature is set on, at most; and rows softened at a time, always.
_MOST: Final = 1 << 18
_TILE: Final = 256


@dataclass
class KeyCells:
    """Cells of equal width over rows served at a temperature of their own: rows of one cell share their words.

    A cell must hold the altered copies of one query, whose average would undo the defense otherwise, and not all rows
    of a label, whose answers would be one fixed map that an adversary inverts. Confidences do for that where they are
    spread. A confident classifier's rows of one label all lie in one cell of them, and differ in their logarithms: so
    every classifier is first brought to the same mean top confidence.

    Attributes:
        grid: width of a cell, in units of confidence; 0 for the finest cells, see `row_bits`.
        temperature: p^(1/temperature), normalised, is what cells are laid over.
    """

    grid: float
    temperature: float

    @classmethod
    def of(cls, rows: Tensor) -> KeyCells:
        """The temperature that brings the defender's own rows [N, K] to the usual mean top confidence."""
        rows = rows[:: -(-rows.numel() // _MOST)]
        wanted = 1 / rows.shape[1] + _SHARE * (1 - 1 / rows.shape[1])
        low, high = _COOLEST, _HOTTEST
        for _ in range(_HALVINGS):
            middle = (low * high) ** 0.5
            top = float(_softened(rows, middle).amax(1).double().mean())
            low, high = (middle, high) if top > wanted else (low, middle)
        return cls(GRID, high)

    def words(self, p: Tensor, count: int, *, key: Key) -> Tensor:
        """So many keyed words for each of the rows [N, K]: int64 [N, count]."""
        seen = _softened(p, self.temperature) if self.grid > 0 else p
        return ops.row_bits(seen, key=key, grid=self.grid, words=count)


def _softened(p: Tensor, temperature: float) -> Tensor:
    """p^(1/temperature), normalised; in tiles of one height, so that no row's bits depend on its place."""
    made = []
    for (tile,) in in_tiles(p.to(torch.float32), height=_TILE):
        powers = (tile.double().clamp_min(_FLOOR).log() / temperature).exp()
        made.append((powers / powers.sum(-1, keepdim=True)).to(torch.float32))
    return torch.cat(made)[: len(p)]
