"""Large batches in pieces, so that a call needs little memory beside what comes in and what goes out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import torch
from torch import Tensor

from mipoison.defenses.clean import in_memory
from mipoison.defenses.workers import side_by_side

# Entries of a piece: of row operations, which take some 70 bytes for each, and large enough for many threads; and of
# networks, which take up to 600.
ROWS: Final = 1 << 18
NETWORKS: Final = 1 << 15
# Pieces of networks are computed beside each other, on a thread each. So many rows are worth a thread; where there are
# many threads, so many rows of many classes are worth a piece.
_FEWEST: Final = 128
_SHORTEST: Final = 16


def pieces(p: Tensor, entries: int) -> list[slice]:
    """Consecutive rows of p [N, K], about so many entries at a time; all of them where they are few.

    An answer does not depend on the rows beside it, so it does not matter where one piece ends. Those that threads
    compute beside each other are shorter, so that every thread has one, and many take little more memory than two.
    """
    n, k = p.shape
    height = max(1, entries // k)
    if _threaded(p, entries):
        threads = torch.get_num_threads()
        height = min(height, max(_SHORTEST, 2 * height // threads), max(_FEWEST, -(-n // threads)))
    if n <= height:
        return [slice(None)]
    return [slice(start, min(start + height, n)) for start in range(0, n, height)]


def in_pieces(
    answer: Callable[[slice, Tensor], Tensor], p: Tensor, entries: int, parts: Sequence[slice]
) -> Tensor:
    """The answers to rows p [N, K], each piece of which is computed by itself: [N, K] of p's dtype.

    Args:
        answer: to the rows of a piece, given with where they are.
        p: the rows.
        entries: of a piece.
        parts: what `pieces` gave for them.
    """
    if len(parts) == 1:
        return answer(parts[0], p)
    out = torch.empty_like(p)

    def write(part: slice) -> None:
        out[part] = answer(part, p[part])

    if _threaded(p, entries):
        side_by_side(write, parts, _threads(p, parts))
    else:
        for part in parts:
            write(part)
    return out


def _threaded(p: Tensor, entries: int) -> bool:
    """Whether pieces of so many entries are computed beside each other."""
    return entries <= NETWORKS and in_memory(p) and torch.get_num_threads() > 1


def _threads(p: Tensor, parts: Sequence[slice]) -> int:
    """How many pieces are computed at a time: together they take no more memory than two long ones."""
    return min(torch.get_num_threads(), max(2, 2 * NETWORKS // p[parts[0]].numel()))
