"""A row and the bank's vectors of its label: keyed ones, and the nearest ones.

Vectors [M, K] are grouped by label: those of label t stand at start[t] to start[t] + count[t] − 1. A vector counts as
the row p itself where ‖v − p‖₁ ≤ same + noise · (1 − p_t), and is not looked at.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from mipoison.random import mulhi32
from mipoison.reference.rounding import at, label_of

# Saturated classifiers give many equal vectors; after this many tries the fallback is taken.
_TRIES: Final = 4
# At most this many entries of vectors are compared with rows at a time.
_ENTRIES: Final = 1 << 24


def nearness(p: Tensor, label: Tensor, same: float, noise: float) -> Tensor:
    """The l1 distance beyond which a vector is not the row itself; [N]."""
    return same + noise * (1 - at(p, label))


def solitary(
    p: Tensor,
    vectors: Tensor,
    start: Tensor,
    count: Tensor,
    same: float,
    noise: float,
    spread: Tensor,
) -> Tensor:
    """The rows whose label has no vector but the row itself, as a mask [N].

    `spread` [K] tells how far the vectors of each label are from its first one at most, in l1.
    """
    label = label_of(p)
    first = vectors[start[label].clamp_max(len(vectors) - 1)]
    near = nearness(p, label, same, noise)
    itself = ((p - first).abs().sum(-1) <= near) & (spread[label] <= near)
    return (count[label] == 0) | itself


def pick_each(
    p: Tensor,
    vectors: Tensor,
    start: Tensor,
    count: Tensor,
    same: float,
    noise: float,
    words: Tensor,
) -> tuple[Tensor, Tensor]:
    """Keyed vectors of each row's label that are not the row itself.

    Args:
        p: rows, float32 [N, K].
        vectors: float32 [M, K].
        start: where each label's vectors begin, int64 [K].
        count: how many there are, int64 [K].
        same: see above.
        noise: see above.
        words: keyed 32-bit words for each row, int64 [N, W].

    Returns:
        float32 [N, W, K], and their places, int64 [N, W]: in `vectors`, or behind those where the label has no other
        vector, so that `away` stands there: the vertices of all labels, and then the middles.
    """
    label = label_of(p)
    many, first = count[label].unsqueeze(1), start[label].unsqueeze(1)
    index = mulhi32(words, many.expand_as(words))
    fallback, place = away(p, label)
    chosen = fallback.unsqueeze(1).expand(-1, words.shape[1], -1)
    place = (len(vectors) + place).unsqueeze(1).expand_as(words)
    rows, least = p.unsqueeze(1), nearness(p, label, same, noise).unsqueeze(1)
    found = (many == 0).expand_as(words)
    for turn in range(_TRIES):
        here = (first + (index + turn) % many.clamp_min(1)).clamp_max(len(vectors) - 1)
        candidate = vectors[here]
        fits = ~found & ((candidate - rows).abs().sum(-1) > least)
        chosen = torch.where(fits.unsqueeze(-1), candidate, chosen)
        place = torch.where(fits, here, place)
        found = found | fits
    return chosen, place


def others(
    p: Tensor, vectors: Tensor, start: Tensor, count: Tensor, same: float, noise: float, slots: int
) -> tuple[Tensor, Tensor]:
    """The vectors of each row's label, or an even selection of at most S = `slots`, and their distances.

    Returns:
        places in `vectors`, int64 [N, S], and l1 distances, float32 [N, S]: infinite where a label has fewer than S
        vectors, and where the vector is the row itself.
    """
    label = label_of(p)
    slot = torch.arange(slots, device=p.device)
    many = count[label].unsqueeze(1)
    place = torch.where(many > slots, slot * many // slots, slot)
    place = (start[label].unsqueeze(1) + place).clamp_max(len(vectors) - 1)
    seen = vectors.index_select(0, place.flatten()).view(*place.shape, p.shape[1])
    distance = torch.cdist(p.unsqueeze(1), seen, p=1.0).squeeze(1)
    itself = distance <= nearness(p, label, same, noise).unsqueeze(1)
    return place, distance.masked_fill_((slot >= many) | itself, torch.inf)


def nearest(
    p: Tensor,
    vectors: Tensor,
    start: Tensor,
    count: Tensor,
    same: float,
    noise: float,
    word: Tensor,
    slots: int,
    subsets: int,
) -> Tensor:
    """The nearest vector of the row's label in each of nested subsets, float32 [N, subsets, K].

    Subset j keeps each vector with probability 2⁻ʲ, by the row's keyed word [N]. Where it keeps none: the vector that
    the word picks.
    """
    bank = vectors, start, count, same, noise
    rows = max(1, _ENTRIES // (slots * p.shape[1]))
    made = [
        _nearest_of_some(*part, bank, slots, subsets)
        for part in zip(p.split(rows), word.split(rows), strict=True)
    ]
    return torch.cat(made)


def _nearest_of_some(
    p: Tensor,
    word: Tensor,
    bank: tuple[Tensor, Tensor, Tensor, float, float],
    slots: int,
    subsets: int,
) -> Tensor:
    place, distance = others(p, *bank, slots)
    draw = _mixed(word.unsqueeze(1), torch.arange(slots, device=p.device))
    spare = pick_each(p, *bank, word.unsqueeze(1))[0].squeeze(1)
    made = []
    for j in range(subsets):
        left = distance.masked_fill(draw >= 2 ** (32 - j), torch.inf)
        least, slot = left.min(1, keepdim=True)
        vector = bank[0][place.gather(1, slot).squeeze(1)]
        made.append(torch.where(torch.isfinite(least), vector, spare))
    return torch.stack(made, 1)


def _mixed(word: Tensor, slot: Tensor) -> Tensor:
    """A 32-bit word for each (row, slot), hashed from the row's keyed word; integers, so the same on every backend."""
    x = word ^ ((slot + 1) * 0x9E3779B9 & 0xFFFFFFFF)
    for factor, shift in ((0x7FEB352D, 16), (0x846CA68B, 15)):
        x = ((x ^ (x >> shift)) * factor) & 0xFFFFFFFF
    return x ^ (x >> 16)


def away(p: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """A target for rows without a bank vector: of two points the one farther from p in l1; [N, K].

    The points are the label's vertex, and the middle between that and the uniform row. Both have the label, and no
    row is near both.

    Returns:
        the point, and its number: that of the label for the vertex, K more for the middle; int64 [N].
    """
    k = p.shape[-1]
    # The vertex is ‖p − e_t‖₁ = 2(1 − p_t) away, and the two points are 1 − 1/K apart.
    near_vertex = 2 * (1 - at(p, label)) < (1 - 1 / k) / 2
    target = torch.where(near_vertex.unsqueeze(-1), middle(label, p), vertex(label, p))
    return target, label + k * near_vertex


def vertex(label: Tensor, like: Tensor) -> Tensor:
    """One-hot rows at the labels, of the other tensor's K, dtype and device."""
    zeros = like.new_zeros((len(label), like.shape[-1]))
    return zeros.scatter(-1, label.unsqueeze(-1), 1.0)


def middle(label: Tensor, like: Tensor) -> Tensor:
    """Their middles to the uniform row."""
    return (vertex(label, like) + 1 / like.shape[-1]) / 2
