"""LFP's operation: a keyed choice of rows and of new labels, and the flipped vectors."""

from __future__ import annotations

import torch
from torch import Tensor

from mipoison.random import mulhi32, row_words
from mipoison.reference.project import solve
from mipoison.reference.rounding import (
    at,
    finish,
    label_of,
    put,
    renormalise,
    safe_answer,
    valid_rows,
)
from mipoison.reference.rows import on_rows


def labels_drawn(
    words: Tensor, label: Tensor, targets: Tensor | None, rate: float, k: int
) -> Tensor:
    """The label that each row is served with: unchanged, or another where its words select it; int64 [N].

    Selected iff r₀ < rate·2³². Without targets the new label is uniform over the others:
    mulhi(r₁, K − 1), plus 1 from the row's label on.
    """
    selected = words[:, 0] < int(rate * 2**32)
    if targets is None:
        other = mulhi32(words[:, 1], k - 1)
        new = other + (other >= label).to(torch.int64)
    else:
        new = torch.where(targets < 0, label, targets)
    return torch.where(selected, new, label)


def flip(
    p: Tensor, targets: Tensor | None, rate: float, key: Tensor, style: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Flips the label of a keyed share of the rows.

    "swap": exchanges the entries of the old and the new label, so that the sorted vector stays the same.
    "project": the nearest vector with the new label. Shapes and meanings as in `mipoison.flip`.

    Returns:
        the rows [N, K], the labels served [N], and the mask of valid rows [N].
    """
    label, k = label_of(p), p.shape[-1]
    valid = valid_rows(p)
    if targets is not None:
        valid = valid & (targets >= -1) & (targets < k)
        targets = targets.clamp(-1, k - 1)
    words = row_words(p, key, 0, 0.0, 4)
    new = torch.where(valid, labels_drawn(words, label, targets, rate, k), label)

    def flipped(p: Tensor, old: Tensor, new: Tensor) -> tuple[Tensor]:
        row = renormalise(p)
        zero = torch.zeros_like(row[:, 0])
        if style == "swap":
            q = put(put(row, old, at(row, new)), new, at(row, old))
        else:
            q = solve(row, row, new, zero, torch.inf, "l1")[0]
        return (finish(q, new, zero, p.dtype),)

    (q,) = on_rows(valid, (safe_answer(p, label, p.dtype),), flipped, p, label, new)
    served = torch.where(valid, new, label_of(q))
    return q, served, valid
