"""The label that a flipped row is served under."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from mipoison import ops
from mipoison.ops import unchecked
from mipoison.ops.rows import label_of
from mipoison.surrogate import Surrogate

TARGETS: Final = ("runner_up", "random", "surrogate")
# Candidates that the surrogate evaluates at a time.
_TRIALS: Final = 65_536


def runner_up(p: Tensor) -> Tensor:
    """Index of the largest entry beside the label, int64 [N]."""
    label = label_of(p)
    return label_of(p.scatter(-1, label.unsqueeze(-1), -1.0))


def surrogate_worst(p: Tensor, surrogate: Surrogate, style: str = "swap") -> Tensor:
    """The new label whose flipped vector the surrogate reconstructs farthest from the old one, int64 [N].

    Tries every other label: N·K evaluations of the surrogate, some rows at a time.
    """
    k = p.shape[1]
    chunks = [_worst(rows, surrogate, style) for rows in p.split(max(1, _TRIALS // k))]
    return torch.cat(chunks) if chunks else label_of(p)


def _worst(p: Tensor, surrogate: Surrogate, style: str) -> Tensor:
    n, k = p.shape
    every = torch.arange(k, device=p.device).repeat(n)
    repeated = p.repeat_interleave(k, dim=0)
    flipped, _ = ops.flip(repeated, targets=every, rate=1.0, key=0, style=style)
    clean = unchecked.recover(p, surrogate).repeat_interleave(k, dim=0)
    error = (
        (unchecked.recover(flipped, surrogate) - clean).square().sum(-1).reshape(n, k).nan_to_num()
    )
    # The row's label is no candidate, however large rounding makes its error.
    return label_of(error.scatter(-1, label_of(p).unsqueeze(-1), -1.0))
