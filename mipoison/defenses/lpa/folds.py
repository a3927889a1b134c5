"""Folds for cross-fitting: rows of every label in each, copies of one input together."""

from __future__ import annotations

import torch
from torch import Tensor


def folds(label: Tensor, groups: Tensor | None, count: int, seed: int) -> Tensor:
    """The fold of each row, from 0; each label's groups are dealt out in turn, in random order.

    Args:
        label: of each row, [N].
        groups: int64 [N]: rows of one group stay together; None: every row is one.
        count: of folds.
        seed: of the order.
    """
    group = torch.arange(len(label), device=label.device) if groups is None else groups
    members, index = group.unique(return_inverse=True)
    # A group takes the label of its last row; labels within a group hardly ever differ.
    label_of_group = label.new_zeros(len(members)).scatter(0, index, label)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(members), generator=generator, device="cpu")
    order = order.to(label.device)
    order = order[label_of_group[order].argsort(stable=True)]
    fold = torch.empty_like(members)
    fold[order] = torch.arange(len(members), device=label.device) % count
    return fold[index]
