"""One projected step along a keyed direction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor

from mipoison.random import row_words, uniforms
from mipoison.reference.clean import distance
from mipoison.reference.step import step as reference_step

# How many times as far as a keyed direction its opposite must move a row to be taken.
_FARTHER: Final = 1.1


def keyed_step(
    p: Tensor,
    seen: Tensor | None,
    key: Tensor,
    grid: float,
    alpha: float,
    epsilon: float,
    norm: str,
    row_bits: Callable[..., Tensor] = row_words,
    step: Callable[..., tuple[Tensor, Any]] = reference_step,
) -> Tensor:
    """One projected step along a keyed direction with entries uniform in (−1, 1).

    Where the direction points out of the set (at a vertex, for example) the projection hardly moves. The
    opposite direction is taken if it moves clearly farther: inside the set both move as far, and rounding would choose.

    Args:
        p: clean rows, [N, K].
        seen: rows to hash in their place, float32 [N, any]; None for p.
        key: the four words of a key.
        grid: width of the cells of the hash, > 0.
        alpha: step length.
        epsilon: radius of the rows' balls.
        norm: their norm.
        row_bits: draws keyed words.
        step: computes a step.

    Returns:
        [N, K] of p's dtype.
    """

    def stepped(way: Tensor) -> tuple[Tensor, Tensor]:
        there = step(p, way, p, None, alpha, epsilon, norm, 0.0, False)[0]
        return there, distance(there, p, norm)

    words = row_bits(p if seen is None else seen, key, 0, grid, p.shape[1])
    direction = (2 * uniforms(words) - 1).to(p.dtype)
    (there, gone), (back, returned) = stepped(direction), stepped(-direction)
    turn = (gone < min(alpha, epsilon) / 2) & (returned > _FARTHER * gone)
    return torch.where(turn.unsqueeze(-1), back, there)
