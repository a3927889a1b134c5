"""The bank: output vectors of the defender's non-private data, picked by label and key.

Answers reveal bank vectors: rows move toward them. Never put private data into a bank.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor

from mipoison.dtype_stable import DtypeStable
from mipoison.ops import banks, unchecked
from mipoison.ops.rows import label_of
from mipoison.ops.unchecked import Networks
from mipoison.ops.validation import require_probabilities
from mipoison.reference.bank import away as reference_away
from mipoison.reference.bank import middle, others, vertex

# A bank vector counts as the query itself within this l1 distance,
SAME: Final = 1e-7
# plus this share of the query's mass on other labels, by which a classifier's answers to one input differ from batch to
# batch.
_NOISE: Final = 5e-5
# Rows are recovered from at most this many entries at a time.
_ENTRIES: Final = 1 << 20


class Bank(DtypeStable):
    """Vectors grouped by label.

    Args:
        vectors: probability vectors, float32 [M, K], M ≥ 1.

    Raises:
        ValueError: for rows that are no probability vectors.
    """

    vectors: Tensor
    start: Tensor
    count: Tensor
    spread: Tensor

    def __init__(self, vectors: Tensor) -> None:
        super().__init__()
        require_probabilities("the bank's vectors", vectors)
        label = label_of(vectors)
        order = torch.argsort(label, stable=True)
        self.register_buffer("vectors", vectors[order].clone())
        start, count = _places(label, vectors.shape[1])
        self.register_buffer("count", count)
        self.register_buffer("start", start)
        # Computed anew where other vectors are loaded.
        self.register_buffer("spread", None, persistent=False)
        self._measure()

    def _measure(self) -> None:
        """Keeps how far each label's vectors are from its first one at most, in l1, and how many a label has at most.

        The latter is a number, so that reading it costs no look at the device.
        """
        label = label_of(self.vectors)
        distance = (self.vectors - self.vectors[self.start[label]]).abs().sum(-1)
        self.spread = distance.new_zeros(len(self.count)).scatter_reduce(0, label, distance, "amax")
        known = not self.count.is_meta
        self._largest = int(self.count.max()) if known else len(self.vectors)
        # Whether every label has vectors.
        self.complete = known and bool((self.count > 0).all())

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        """Loads, and measures what was loaded."""
        super()._load_from_state_dict(state_dict, prefix, *rest)
        self._measure()

    def check_state(self, tensors: Mapping[str, Tensor]) -> None:
        """See `DtypeStable.check_state`; rows move toward what is at a label's places."""
        vectors, label = tensors["vectors"], label_of(tensors["vectors"])
        require_probabilities("the bank's vectors", vectors)
        start, count = _places(label, vectors.shape[1])
        places = torch.equal(start, tensors["start"]) and torch.equal(count, tensors["count"])
        if not places or bool((label.diff() < 0).any()):
            raise ValueError(
                "expected the bank's vectors grouped by label, with their places in start and count, got others; pass "
                "all that state_dict gave"
            )

    def settings(self) -> dict[str, Any]:
        """The arguments of `restore` beside the tensors."""
        return {}

    @classmethod
    def restore(cls, settings: dict[str, Any], tensors: dict[str, Tensor]) -> Bank:
        """Builds the bank from the tensors of `state_dict`."""
        return cls(tensors["vectors"])

    def slots(self, most: int) -> int:
        """The number of vectors of one label that a row is compared with, at most `most`; ≥ 1."""
        return max(1, min(self._largest, most))

    def solitary(self, p: Tensor) -> Tensor:
        """The float32 rows [N, K] whose label has no vector but the row itself, as a mask [N]."""
        return banks.solitary(p, self.grouped, self.spread)

    @property
    def grouped(self) -> banks.Grouped:
        """The form of the operations."""
        return banks.Grouped(self.vectors, self.start, self.count, SAME, _NOISE)

    def pick_each(self, p: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        """For each keyed word [N, W] a vector of the row's label that is not the row itself, of float32 rows [N, K].

        Returns:
            float32 [N, W, K], and their places, int64 [N, W], which are those of `recovered`. Where the label has no
            other vector: the fallback, see `away`.
        """
        return banks.pick_each(p, self.grouped, words)

    def nearest(self, p: Tensor, word: Tensor, *, most: int, subsets: int) -> Tensor:
        """The nearest vector of each row's label in each of nested subsets, which a keyed word chooses.

        Args:
            p: rows, float32 [N, K].
            word: a keyed word for each, int64 [N].
            most: a row is compared with at most so many vectors.
            subsets: how many; subset j keeps each vector with probability 2⁻ʲ.

        Returns:
            float32 [N, subsets, K]; the vector that the word picks where a subset is empty.
        """
        slots = self.slots(most)
        return banks.nearest(p, self.grouped, word, slots=slots, subsets=subsets)

    def others(self, p: Tensor, most: int) -> tuple[Tensor, Tensor]:
        """The places of vectors of each row's label, at most so many, and their distances; see `reference.bank`."""
        return others(p, *self.grouped, self.slots(most))

    def recovered(self, networks: Networks) -> Tensor:
        """What networks recover from the vector at each place that `pick_each` gives: float32 [M + 2K, outputs]."""
        k = self.vectors.shape[1]
        labels = torch.arange(k, device=self.vectors.device)
        made = [unchecked.recover(self.vectors, networks)]
        for point in (vertex, middle):
            some = labels.split(max(1, _ENTRIES // k))
            made += [unchecked.recover(point(t, self.vectors), networks) for t in some]
        return torch.cat(made)


def _places(label: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Where each label's vectors begin once they are grouped by label, and how many there are; int64 [K]."""
    count = torch.bincount(label, minlength=classes)
    return count.cumsum(0) - count, count


def away(p: Tensor, label: Tensor) -> Tensor:
    """A target for rows without a bank vector: the label's vertex, or the middle between that and the uniform row.

    Of the two the one farther from p in l1; [N, K].
    """
    return reference_away(p, label)[0]
