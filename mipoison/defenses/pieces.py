"""Large batches in pieces, so that a call needs little memory beside what comes in and what goes out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import torch
from torch import Tensor

# Entries of a piece: of row operations, which take some 70 bytes for each, and large enough for many threads; and of
# networks, which take up to 600.
ROWS: Final = 1 << 18
NETWORKS: Final = 1 << 15


def pieces(p: Tensor, entries: int) -> list[slice]:
    """Consecutive rows of p [N, K], about so many entries at a time; all of them where they are few.

    An answer does not depend on the rows beside it, so it does not matter where one piece ends.
    """
    n, k = p.shape
    height = max(1, entries // k)
    if n <= height:
        return [slice(None)]
    return [slice(start, min(start + height, n)) for start in range(0, n, height)]


def in_pieces(
    answer: Callable[[slice, Tensor], Tensor], p: Tensor, parts: Sequence[slice]
) -> Tensor:
    """The answers to rows p [N, K], each piece of which is computed by itself: [N, K] of p's dtype.

    Args:
        answer: to the rows of a piece, given with where they are.
        p: the rows.
        parts: what `pieces` gave.
    """
    if len(parts) == 1:
        return answer(parts[0], p)
    out = torch.empty_like(p)
    for part in parts:
        out[part] = answer(part, p[part])
    return out
