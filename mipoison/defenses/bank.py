"""The bank: output vectors of the defender's non-private data, picked by label and key.

Answers reveal bank vectors: rows move toward them. Never put private data into a bank.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor

from mipoison.dtype_stable import DtypeStable
from mipoison.ops.validation import require_probabilities
from mipoison.random import mulhi32
from mipoison.reference import label_of
from mipoison.reference.rounding import at

# A bank vector counts as the query itself within this l1 distance,
SAME: Final = 1e-7
# plus this share of the query's mass on other labels, by which a classifier's answers to one input differ from batch to
# batch.
_NOISE: Final = 5e-5
# Saturated classifiers give many equal vectors; after this many tries the fallback is taken.
_TRIES: Final = 4


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
        """Keeps how far each label's vectors are from its first one at most, in l1; [K]."""
        label = label_of(self.vectors)
        distance = (self.vectors - self.vectors[self.start[label]]).abs().sum(-1)
        self.spread = distance.new_zeros(len(self.count)).scatter_reduce(0, label, distance, "amax")

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
        return max(1, int(self.count.max().clamp_max(most)))

    def alone(self, p: Tensor) -> Tensor:
        """The rows [N, K] whose label has no vector but the row itself, as a mask [N]."""
        label = label_of(p)
        first = self.vectors[self.start[label].clamp_max(len(self.vectors) - 1)]
        same = _nearness(p, label)
        itself = ((p - first).abs().sum(-1) <= same) & (self.spread[label] <= same)
        return (self.count[label] == 0) | itself

    def others(self, p: Tensor, label: Tensor, most: int) -> tuple[Tensor, Tensor]:
        """The vectors of each row's label, or an even selection of them, and their distances.

        Args:
            p: rows, float32 [N, K].
            label: their labels, int64 [N].
            most: vectors of one label, ≥ 1.

        Returns:
            places in `vectors`, int64 [N, S], and l1 distances, float32 [N, S]: infinite where a label has fewer than
            S vectors, and where the vector is the row itself.
        """
        slot = torch.arange(self.slots(most), device=p.device)
        count = self.count[label].unsqueeze(1)
        place = torch.where(count > len(slot), slot * count // len(slot), slot)
        place = (self.start[label].unsqueeze(1) + place).clamp_max(len(self.vectors) - 1)
        vectors = self.vectors.index_select(0, place.flatten()).view(*place.shape, p.shape[1])
        distance = torch.cdist(p.unsqueeze(1), vectors, p=1.0).squeeze(1)
        itself = distance <= _nearness(p, label).unsqueeze(1)
        return place, distance.masked_fill_((slot >= count) | itself, torch.inf)

    def pick(self, p: Tensor, label: Tensor, word: Tensor) -> Tensor:
        """A keyed vector of each row's label that is not the row itself.

        Args:
            p: rows, float32 [N, K].
            label: their labels, int64 [N].
            word: a keyed 32-bit word for each, int64 [N].

        Returns:
            float32 [N, K]. Where the label has no other vector: the fallback, see `away`.
        """
        count, start = self.count[label], self.start[label]
        index = mulhi32(word, count)
        chosen, same = away(p, label), _nearness(p, label)
        found = torch.zeros_like(count, dtype=torch.bool)
        for turn in range(_TRIES):
            place = start + (index + turn) % count.clamp_min(1)
            candidate = self.vectors[place.clamp_max(len(self.vectors) - 1)]
            fits = ~found & (count > 0) & ((candidate - p).abs().sum(-1) > same)
            chosen = torch.where(fits.unsqueeze(-1), candidate, chosen)
            found = found | fits
        return chosen


def _places(label: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Where each label's vectors begin once they are grouped by label, and how many there are; int64 [K]."""
    count = torch.bincount(label, minlength=classes)
    return count.cumsum(0) - count, count


def _nearness(p: Tensor, label: Tensor) -> Tensor:
    """The l1 distance beyond which a vector is not the row itself; [N]."""
    return SAME + _NOISE * (1 - at(p, label))


def away(p: Tensor, label: Tensor) -> Tensor:
    """A target for rows without a bank vector: of two points the one farther from p in l1; [N, K].

    The points are the label's vertex, and the middle between that and the uniform row. Both have the label, and no
    row is near both.
    """
    vertex = torch.zeros_like(p).scatter(-1, label.unsqueeze(-1), 1.0)
    middle = (vertex + 1 / p.shape[-1]) / 2
    # The vertex is ‖p − e_t‖₁ = 2(1 − p_t) away, and the two points are 1 − 1/K apart.
    near_vertex = 2 * (1 - at(p, label)) < (1 - 1 / p.shape[-1]) / 2
    return torch.where(near_vertex.unsqueeze(-1), middle, vertex)
