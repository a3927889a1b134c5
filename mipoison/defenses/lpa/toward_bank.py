"""Objectives that move a row toward a bank vector from which a surrogate recovers something else."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from mipoison.defenses.bank import Bank
from mipoison.defenses.clean import as_dtype
from mipoison.defenses.lpa.objective import Objective
from mipoison.defenses.lpa.versions import Versions, same, versions
from mipoison.defenses.pieces import NETWORKS
from mipoison.keys import Key
from mipoison.ops import unchecked
from mipoison.ops.keyed import keyed_bits
from mipoison.ops.rows import label_of
from mipoison.ops.validation import as_part
from mipoison.surrogate import Surrogate

_CANDIDATES: Final = 4


class TowardBank(Objective):
    """An objective with a surrogate, a bank, and what the surrogate recovers from the bank's vectors.

    Args:
        surrogate: the fitted inversion models.
        bank: output vectors of the defender's own, non-private, data.
    """

    recovered: Tensor

    def __init__(self, surrogate: Surrogate, bank: Bank) -> None:
        super().__init__()
        self.surrogate = as_part("surrogate", surrogate, Surrogate, "mp.Surrogate.fit")
        self.bank = as_part("bank", bank, Bank, "mp.LPA.fit")
        self.register_buffer("recovered", None, persistent=False)
        self._made_of: Versions = ()

    @property
    def piece(self) -> int:  # type: ignore[override]
        """See `Defense.piece`: a row has as many numbers for each candidate as there are coefficients."""
        k = self.surrogate.classes
        return max(1, NETWORKS * k // max(k, self.surrogate.outputs))

    def prepare(self) -> None:
        """Computes what depends on the parts, where they have changed since: by a load, or a move to a device."""
        parts = versions(*self.parts())
        if not same(parts, self._made_of):
            with torch.inference_mode(False), torch.no_grad():
                self.compute()
            self._made_of = parts

    def parts(self) -> tuple[Tensor, ...]:
        """The tensors that it depends on."""
        return self.surrogate.packed, self.bank.vectors

    def compute(self) -> None:
        """Computes it."""
        self.recovered = self.bank.recovered(self.surrogate)

    @property
    def classes(self) -> int:
        """K of the surrogate."""
        return self.surrogate.classes

    def far_target(self, p: Tensor, *, key: Key, grid: float) -> tuple[Tensor, Tensor, Tensor]:
        """The keyed bank vector of each row's label, out of a few, whose reconstruction is farthest from the row's.

        Args:
            p: rows, [N, K].
            key: chooses the few.
            grid: cell width of the key's hash.

        Returns:
            the vectors, float32 [N, K]; what is recovered from them, [N, C]; and the distance of that from what is
            recovered from the row, [N].
        """
        self.prepare()
        label = label_of(p)
        single = as_dtype(p, torch.float32, label)
        words = keyed_bits(p, key, 0, grid, _CANDIDATES)
        vectors, places = self.bank.pick_each(single, words)
        there = self.recovered[places]
        clean = unchecked.recover(single, self.surrogate)
        squared = (there - clean.unsqueeze(1)).square().sum(-1)
        best = squared.argmax(1, keepdim=True)
        target = vectors.take_along_dim(best.unsqueeze(-1), 1).squeeze(1)
        goal = there.take_along_dim(best.unsqueeze(-1), 1).squeeze(1)
        return target, goal, squared.gather(1, best).squeeze(1).sqrt()
