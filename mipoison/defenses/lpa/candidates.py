"""Candidates: the keyed answers to a row that the equilibrium chooses from, all in the row's set C."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import torch
from torch import Tensor

from mipoison.defenses.bank import Bank, away
from mipoison.defenses.clean import as_dtype
from mipoison.defenses.lpa.key_cells import KeyCells
from mipoison.defenses.lpa.versions import Versions, same, versions
from mipoison.dtype_stable import DtypeStable
from mipoison.keys import Key
from mipoison.nn import Network
from mipoison.ops import unchecked
from mipoison.ops.rows import label_of
from mipoison.ops.validation import require_probabilities

# Shares of the budget that moves spend toward bank vectors, toward the label's center, and by gradient steps.
_TO_BANK: Final = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0)
_TO_CENTER: Final = (0.25, 1.0, 4.0)
_DECOYS: Final = (0.15, 0.5, 1.0, 3.0)
# A decoy heads for the bank vector from which most else is recovered, out of so many that the key picks. Each shares
# half of them with the next decoy.
_GOALS: Final = 8
_PICKS: Final = len(_DECOYS) * _GOALS // 2
# Three steps of two thirds of the ball gain as much as six of a third, in half the time.
_STEPS: Final = 3
_STEP: Final = 2 / 3
# Nearest bank vectors are taken in this many subsets; subset j keeps each vector with probability 2⁻ʲ.
_SUBSETS: Final = 8
# The subset toward whose nearest vector there is also a half-way candidate.
_HALF: Final = 2
# A row is compared with at most this many bank vectors of its label.
_MOST: Final = 256
_WORDS: Final = 1 + len(_TO_BANK) + _PICKS
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
    recovered: Tensor
    own: Tensor

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
        self.guide: Network | None = None
        self.budget = budget
        self.key_cells = key_cells
        self.register_buffer("center", _centers(bank))
        self.register_buffer("recovered", None, persistent=False)
        # Which of the key's picks each decoy has, int64 [decoys, _GOALS].
        self.register_buffer("own", None, persistent=False)
        self._made_of: Versions = ()
        if guide is not None:
            self.follow(guide)

    def follow(self, guide: Network) -> None:
        """Makes decoys by this network from now on; finds what it recovers from the bank, where they have changed."""
        self.guide = guide
        parts = versions(guide.packed, self.bank.vectors)
        if not same(parts, self._made_of):
            with torch.inference_mode(False), torch.no_grad():
                self.recovered = self.bank.recovered(guide)
                picks = torch.arange(_PICKS, device=self.recovered.device)
                first = range(0, _PICKS, _GOALS // 2)
                self.own = torch.stack([picks.roll(-i)[:_GOALS] for i in first])
            self._made_of = parts

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
        vectors, places = self.bank.pick_each(single, words[:, 1:_WORDS])
        if moves is None:
            made = self._moves(p, single, label, words[:, 0], vectors, epsilon, norm)
        else:
            made = list(moves.unbind(1))
        if self.guide is not None and "decoys" not in self.without:
            there = slice(len(_TO_BANK), None)
            made += self._decoys(p, self._goals(single, places[:, there]), epsilon, norm)
        candidates = torch.stack(made, 1)
        return candidates, words[:, _WORDS : _WORDS + len(made)]

    def _moves(
        self,
        p: Tensor,
        single: Tensor,
        label: Tensor,
        word: Tensor,
        vectors: Tensor,
        epsilon: float,
        norm: str,
    ) -> list[Tensor]:
        """The row itself, and moves toward the nearest vectors, the given ones [N, W, K] and centers."""
        filling, replacing = ("waterfill", "sparse") if norm == "l1" else ("straight", "straight")

        def moved(target: Tensor, amount: float, style: str) -> Tensor:
            return unchecked.move(
                p, target.to(p.dtype), epsilon=min(amount, epsilon), norm=norm, style=style
            )

        made = [p]
        if "nearest" not in self.without:
            near = self.bank.nearest(single, word, most=_MOST, subsets=_SUBSETS)
            straight = unchecked.move(
                p.repeat_interleave(_SUBSETS, 0),
                near.flatten(0, 1).to(p.dtype),
                epsilon=epsilon,
                norm=norm,
                style="straight",
            )
            middle = (p + near[:, _HALF].to(p.dtype)) / 2
            made += straight.view(len(p), _SUBSETS, -1).unbind(1)
            made.append(moved(kept(middle, p, label), epsilon, "straight"))
        if "bank" not in self.without:
            for i, share in enumerate(_TO_BANK):
                made.append(moved(vectors[:, i], share * self.budget, replacing))
        if "center" not in self.without:
            center = self._center_of(single, label)
            made.extend(moved(center, share * self.budget, filling) for share in _TO_CENTER)
        return made

    def _center_of(self, p: Tensor, label: Tensor) -> Tensor:
        """The center of each row's label; `away` where the label has no vectors."""
        if self.bank.complete:
            return self.center[label]
        known = (self.bank.count[label] > 0).unsqueeze(1)
        return torch.where(known, self.center[label], away(p, label))

    def _goals(self, p: Tensor, places: Tensor) -> Tensor:
        """What each decoy is to be recovered as: what is recovered from one of the bank vectors at its places.

        Args:
            p: rows, float32 [N, K].
            places: of vectors that the key picks, int64 [N, _PICKS].

        Returns:
            [N, decoys, outputs]: of each decoy's _GOALS the recovery that is farthest from the row's.
        """
        assert self.guide is not None
        self.follow(self.guide)
        there = self.recovered[places]
        far = (there - unchecked.recover(p, self.guide).unsqueeze(1)).square().sum(-1)
        best = far[:, self.own].argmax(2, keepdim=True)
        best = self.own.expand(len(p), -1, -1).gather(2, best)
        return there.take_along_dim(best, 1)

    def _decoys(self, p: Tensor, goals: Tensor, epsilon: float, norm: str) -> list[Tensor]:
        """Gradient steps toward these recoveries, [N, decoys, outputs]."""
        assert self.guide is not None
        made = []
        for i, share in enumerate(_DECOYS):
            ball = min(share * self.budget, epsilon)
            made.append(
                unchecked.perturb(
                    p,
                    goals[:, i],
                    self.guide,
                    center=p,
                    steps=_STEPS,
                    alpha=_STEP * ball,
                    epsilon=ball,
                    norm=norm,
                    smooth=False,
                )
            )
        return made


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
