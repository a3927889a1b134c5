"""The bank: output vectors of the defender's non-private data, picked by label and key.

Answers reveal bank vectors: rows move toward them. Never put private data into a bank.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor

from mipoison.dtype_stable import DtypeStable
from mipoison.ops import unchecked
from mipoison.ops.unchecked import Networks
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

    def __init__(self, vectors: Tensor) -> None:
        super().__init__()
        require_probabilities("the bank's vectors", vectors)
        label = label_of(vectors)
        order = torch.argsort(label, stable=True)
        self.register_buffer("vectors", vectors[order].clone())
        start, count = _places(label, vectors.shape[1])
        self.register_buffer("count", count)
        self.register_buffer("start", start)

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
        """A keyed vector of each row's label that is not the row itself: float32 [N, K]; see `pick_each`."""
        return self.pick_each(p, label, word.unsqueeze(1))[0].squeeze(1)

    def pick_each(self, p: Tensor, label: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        """Keyed vectors of each row's label that are not the row itself.

        Args:
            p: rows, float32 [N, K].
            label: their labels, int64 [N].
            words: keyed 32-bit words for each, int64 [N, W].

        Returns:
            float32 [N, W, K], and their places, int64 [N, W]: in `vectors`, or behind those where the label has no
            other vector, so that `away` stands there: the vertices of all labels, and then the middles.
        """
        count, start = self.count[label].unsqueeze(1), self.start[label].unsqueeze(1)
        index = mulhi32(words, count.expand_as(words))
        fallback, place = away_with_place(p, label)
        chosen = fallback.unsqueeze(1).expand(-1, words.shape[1], -1)
        place = (len(self.vectors) + place).unsqueeze(1).expand_as(words)
        rows, same = p.unsqueeze(1), _nearness(p, label).unsqueeze(1)
        found = count == 0
        least = count.clamp_min(1)
        for turn in range(_TRIES):
            here = (start + (index + turn) % least).clamp_max(len(self.vectors) - 1)
            candidate = self.vectors[here]
            fits = ~found & ((candidate - rows).abs().sum(-1) > same)
            chosen = torch.where(fits.unsqueeze(-1), candidate, chosen)
            place = torch.where(fits, here, place)
            found = found | fits
        return chosen, place

    def recovered(self, networks: Networks) -> Tensor:
        """What networks recover from the vector at each place that `pick_each` gives: float32 [M + 2K, outputs]."""
        k = self.vectors.shape[1]
        labels = torch.arange(k, device=self.vectors.device)
        made = [unchecked.recover(self.vectors, networks)]
        for farther in (_vertex, _middle):
            some = labels.split(max(1, _ENTRIES // k))
            made += [unchecked.recover(farther(t, self.vectors), networks) for t in some]
        return torch.cat(made)


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
    return away_with_place(p, label)[0]


def away_with_place(p: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """The target, and its number: that of the label for the vertex, K more for the middle; int64 [N]."""
    k = p.shape[-1]
    # The vertex is ‖p − e_t‖₁ = 2(1 − p_t) away, and the two points are 1 − 1/K apart.
    near_vertex = 2 * (1 - at(p, label)) < (1 - 1 / k) / 2
    target = torch.where(near_vertex.unsqueeze(-1), _middle(label, p), _vertex(label, p))
    return target, label + k * near_vertex


def _vertex(label: Tensor, like: Tensor) -> Tensor:
    zeros = like.new_zeros((len(label), like.shape[-1]))
    return zeros.scatter(-1, label.unsqueeze(-1), 1.0)


def _middle(label: Tensor, like: Tensor) -> Tensor:
    return (_vertex(label, like) + 1 / like.shape[-1]) / 2
