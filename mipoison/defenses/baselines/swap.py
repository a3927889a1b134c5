"""Swap: moves rows toward another vector of their label, straight, by water-filling or sparse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from mipoison import ops
from mipoison.construction import constructor
from mipoison.defenses.bank import Bank
from mipoison.defenses.base import Defense
from mipoison.defenses.clean import as_dtype, defender_rows
from mipoison.defenses.saving import Restore
from mipoison.keys import Key, KeyLike, resolve_key
from mipoison.neutral import neutrally
from mipoison.ops.rows import label_of
from mipoison.ops.validation import as_choice, as_grid, as_number, as_part
from mipoison.reference.move import STYLES


class Swap(Defense):
    """Moves each row toward a keyed bank vector of its label, at most ε in l1.

    Answers reveal bank vectors: never put private data into the bank. With ε = 2 every answer is a bank vector.

    Args:
        bank: vectors of the defender's non-private data; `Swap.fit` makes one.
        epsilon: hard cap on the row's move, l1, in [0, 2].
        style: "straight", "waterfill" or "sparse", see `mipoison.move`.
        grid: cell width of the key's hash, in units of confidence; 0 for the finest cells, see `row_bits`.
        key: 16 bytes or more, an int (for experiments) or None (one secret per process).
        on_invalid: see `Defense`.
        margin: see `Defense`.

    Raises:
        TypeError: for a setting or a key of a wrong kind.
        ValueError: for a setting out of its range, or a key of few bytes or of bytes that repeat themselves.
    """

    name: ClassVar[str] = "swap"
    saved: ClassVar[tuple[str, ...]] = ("epsilon", "style", "grid")
    parts: ClassVar[Mapping[str, Restore | None]] = {"bank": Bank.restore}

    def __init__(
        self,
        bank: Bank,
        *,
        epsilon: float = 0.2,
        style: str = "straight",
        grid: float = 0.1,
        key: KeyLike = None,
        on_invalid: str = "raise",
        margin: float = 1e-3,
    ) -> None:
        super().__init__(on_invalid=on_invalid, margin=margin)
        self.bank = as_part("bank", bank, Bank, "Swap.fit")
        self.epsilon = as_number("epsilon", epsilon, 0.0, 2.0)
        self.style = as_choice("style", style, STYLES)
        self.grid = as_grid(grid)
        self._key: Key = resolve_key(key)

    @property
    def ball(self) -> tuple[float, str]:
        """See `Defense.ball`."""
        return self.epsilon, "l1"

    @property
    def classes(self) -> int:
        """K of the bank."""
        return self.bank.vectors.shape[1]

    @constructor
    @neutrally
    def fit(cls, outputs: Any, **settings: Any) -> Swap:
        """Makes the bank of the defender's non-private outputs [N, K]; settings as in `Swap`.

        Raises:
            TypeError: for a wrong kind or dtype.
            ValueError: for wrong shapes or ranges, no rows, or rows that are no probability
                vectors.

        Example:
            >>> p = torch.softmax(torch.randn(64, 5), 1)
            >>> q = Swap.fit(p, epsilon=0.1, key=b"a secret of many bytes")(p)
            >>> bool(((q - p).abs().sum(1) < 0.1001).all())
            True
        """
        return cls(Bank(as_dtype(defender_rows(outputs), torch.float32)), **settings)

    def answer(self, p: Tensor) -> Tensor:
        """See `Defense.answer`."""
        label = label_of(p)
        word = ops.row_bits(p, key=self._key, grid=self.grid, words=1)
        target = self.bank.pick_each(as_dtype(p, torch.float32, label), word)[0][:, 0].to(p.dtype)
        return ops.move(p, target, epsilon=self.epsilon, style=self.style, validate=False)

    def extra_repr(self) -> str:
        """Settings, without the key."""
        return f"epsilon={self.epsilon:g}, style={self.style!r}, grid={self.grid:g}"
