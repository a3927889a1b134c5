"""A share of many rows, for what need not see them all."""

from __future__ import annotations

import torch
from torch import Tensor


def some_of(rows: int, most: int, device: torch.device) -> Tensor:
    """Which of so many rows to look at, in order: all of them, or `most` ≥ 1 that are drawn; int64.

    The draw is the same each time. (Every second row might be every row of one label.)
    """
    if rows <= most:
        return torch.arange(rows, device=device)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randperm(rows, generator=generator, device="cpu")[: max(1, most)]
    return drawn.sort().values.to(device)
