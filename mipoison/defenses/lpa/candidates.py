"""Candidates: the keyed answers to a row that the equilibrium chooses from, all in the row's set C."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import torch
from torch import Tensor

from mipoison import ops
from mipoison.defenses.bank import Bank, away
from mipoison.defenses.clean import as_dtype
from mipoison.defenses.lpa.key_cells import KeyCells
from mipoison.dtype_stable import DtypeStable
from mipoison.nn import Network
from mipoison.ops.validation import require_probabilities
from mipoison.random import Key
from mipoison.reference import label_of

# Shares of the budget that moves spend toward bank vectors, toward the label's center, and by gradient steps.
_TO_BANK: Final = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0)
_TO_CENTER: Final = (0.25, 1.0, 4.0)
_DECOYS: Final = (0.15, 0.5, 1.0, 3.0)
# Three steps of two thirds of the ball gain as much as six of a third, in half the time.
_STEPS: Final = 3
_STEP: Final = 2 / 3
# Nearest bank vectors are taken in this many subsets; subset j keeps each vector with probability 2⁻ʲ.
_SUBSETS: Final = 8
# The subset toward whose nearest vector there is also a half-way candidate.
_HALF: Final = 2
# A row is compared with at most this many bank vectors of its label; and at most this many entries at a time.
_MOST: Final = 256
_ENTRIES: Final = 1 << 24
_WORDS: Final = 1 + len(_TO_BANK) + len(_DECOYS)
KINDS: Final = ("nearest", "bank", "center", "decoys")


class Candidates(DtypeStable):
    """Makes COUNT answers to every row: moves toward bank vectors and the label's center, and decoys of a network.

    Args:
        bank: output vectors of the defender's own, non-private, data.
        guide: the network whose gradients decoys follow.
        budget: mean l1 that the moves are scaled to.
        key_cells: which rows share their keyed words.
        without: kinds that are left out: "nearest", "bank", "center", "decoys".
    """

    COUNT: Final = 1 + _SUBSETS + 1 + len(_TO_BANK) + len(_TO_CENTER) + len(_DECOYS)
    center: Tensor

    def __init__(
        self,
        bank: Bank,
        guide: Network | None,
        *,
        budget: float,
        key_cells: KeyCells,
        without: Sequence[str] = (),
    ) -> None:
        super().__init__()
        if not set(without) <= set(KINDS):
            raise ValueError(f"expected without to name kinds out of {KINDS}, got {tuple(without)}")
        self.without = tuple(without)
        self.bank = bank
        self.guide = guide
        self.budget = budget
        self.key_cells = key_cells
        self.register_buffer("center", _centers(bank))

    def check_state(self, tensors: Mapping[str, Tensor]) -> None:
        """See `DtypeStable.check_state`; a label without a center has zeros."""
        known = tensors["center"].any(1)
        centers = tensors["center"][known]
        require_probabilities("the centers of labels", centers)
        if not torch.equal(label_of(centers), known.nonzero().squeeze(1)):
            raise ValueError(
                "expected a center of each label, got one of another; pass all that state_dict gave"
            )

    def make(
        self, p: Tensor, *, key: Key, epsilon: float, norm: str, moves: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Candidates of rows [N, K]: [N, COUNT, K] of p's dtype, and a further keyed word for each.

        Without a guide there are no decoys, and fewer than COUNT. Candidates made without a guide can be passed as
        `moves`, which saves making them again.
        """
        label = label_of(p)
        single = as_dtype(p, torch.float32, label)
        words = self.key_cells.words(p, _WORDS + self.COUNT, key=key)
        if moves is None:
            moves = self._moves(p, single, label, words, epsilon, norm)
        if self.guide is not None and "decoys" not in self.without:
            decoys = self._decoys(p, single, label, words, epsilon, norm)
            moves = torch.cat((moves, torch.stack(decoys, 1)), 1)
        return moves, words[:, _WORDS : _WORDS + moves.shape[1]]

    def _moves(
        self, p: Tensor, single: Tensor, label: Tensor, words: Tensor, epsilon: float, norm: str
    ) -> Tensor:
        """The row itself, and moves toward bank vectors and centers."""
        n = len(p)
        filling = "waterfill" if norm == "l1" else "straight"

        def moved(target: Tensor, amount: float, style: str) -> Tensor:
            return ops.move(
                p, target.to(p.dtype), epsilon=min(amount, epsilon), norm=norm, style=style
            )

        made = [p]
        if "nearest" not in self.without:
            near = self._nearest(single, label, words[:, 0])
            stacked = torch.cat(near)
            everywhere = p.repeat(len(near), 1)
            straight = ops.move(everywhere, stacked.to(p.dtype), epsilon=epsilon, norm=norm)
            middle = (p + near[_HALF].to(p.dtype)) / 2
            made += [*straight.split(n), moved(kept(middle, p, label), epsilon, "straight")]
        if "bank" not in self.without:
            for i, share in enumerate(_TO_BANK):
                target = self.bank.pick(single, label, words[:, 1 + i])
                made.append(moved(target, share * self.budget, filling))
        if "center" not in self.without:
            center = self._center_of(single, label)
            made.extend(moved(center, share * self.budget, filling) for share in _TO_CENTER)
        return torch.stack(made, 1)

    def _nearest(self, p: Tensor, label: Tensor, word: Tensor) -> list[Tensor]:
        """For each subset the nearest vector of the row's label other than the row; float32 [N, K] each."""
        rows = max(1, _ENTRIES // (self.bank.slots(_MOST) * p.shape[1]))
        parts = [
            self._nearest_of_some(*part)
            for part in zip(p.split(rows), label.split(rows), word.split(rows), strict=True)
        ]
        return [torch.cat(pieces) for pieces in zip(*parts, strict=True)]

    def _nearest_of_some(self, p: Tensor, label: Tensor, word: Tensor) -> list[Tensor]:
        place, distance = self.bank.others(p, label, _MOST)
        draw = _mixed(word.unsqueeze(1), torch.arange(place.shape[1], device=p.device))
        spare = self.bank.pick(p, label, word)
        nearest = []
        for j in range(_SUBSETS):
            left = distance.masked_fill(draw >= 2 ** (32 - j), torch.inf)
            least, slot = left.min(1, keepdim=True)
            vector = self.bank.vectors[place.gather(1, slot).squeeze(1)]
            nearest.append(torch.where(torch.isfinite(least), vector, spare))
        return nearest

    def _center_of(self, p: Tensor, label: Tensor) -> Tensor:
        """The center of each row's label; `away` where the label has no vectors."""
        known = (self.bank.count[label] > 0).unsqueeze(1)
        return torch.where(known, self.center[label], away(p, label))

    def _decoys(
        self, p: Tensor, single: Tensor, label: Tensor, words: Tensor, epsilon: float, norm: str
    ) -> list[Tensor]:
        """Gradient steps toward the guide's recovery from a keyed bank vector of the label."""
        guide = self.guide
        assert guide is not None
        first = 1 + len(_TO_BANK)
        made = []
        for i, share in enumerate(_DECOYS):
            goal = guide(self.bank.pick(single, label, words[:, first + i]))
            ball = min(share * self.budget, epsilon)
            q = p
            for _ in range(_STEPS):
                g = -guide.gradient(q.to(torch.float32), goal).to(p.dtype)
                q = ops.step(q, g, center=p, alpha=_STEP * ball, epsilon=ball, norm=norm)
            made.append(q)
        return made


def _mixed(word: Tensor, slot: Tensor) -> Tensor:
    """A 32-bit word for each (row, slot), hashed from the row's keyed word; integers, so the same on every backend."""
    x = word ^ ((slot + 1) * 0x9E3779B9 & 0xFFFFFFFF)
    for factor, shift in ((0x7FEB352D, 16), (0x846CA68B, 15)):
        x = ((x ^ (x >> shift)) * factor) & 0xFFFFFFFF
    return x ^ (x >> 16)


def kept(target: Tensor, p: Tensor, label: Tensor) -> Tensor:
    """The target where it has the row's label, else the row."""
    return torch.where((label_of(target) == label).unsqueeze(1), target, p)


def _centers(bank: Bank) -> Tensor:
    """Each label's coordinate-wise median, normalised; the mean where the median has another label."""
    k = len(bank.count)
    table = bank.vectors.new_zeros((k, k))
    for label, some in enumerate(bank.vectors.split(bank.count.tolist())):
        if len(some) == 0:
            continue
        index = torch.tensor([label], dtype=torch.int64, device=some.device)
        choices = (some.median(0).values, some.double().mean(0), some[0])
        for choice in choices:
            row = choice[None].double()
            center = as_dtype(row / row.sum(), torch.float32, index)
            if bool(label_of(row) == index) and bool(torch.isfinite(center).all()):
                table[label] = center[0]
                break
    return table
