"""Applying a batched function to some of the rows only."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import torch
from torch import Tensor

from mipoison.reference.loops import traced

Tensors = TypeVar("Tensors", bound=tuple[Tensor, ...])


def on_rows(
    mask: Tensor,
    result: Tensors,
    function: Callable[..., Tensors],
    *rows: Tensor,
) -> Tensors:
    """Replaces the masked rows of each result by the function's on those rows.

    A single row is passed twice: torch sums a row in another order where it is the only one, and a row's bits must
    not depend on its batch. In a graph all rows are passed; the function must not fail on the others.
    """
    if traced():
        everywhere = (
            torch.where(mask.reshape(-1, *[1] * (old.ndim - 1)), new, old)
            for old, new in zip(result, function(*rows), strict=True)
        )
        return cast(Tensors, tuple(everywhere))
    index = mask.nonzero().squeeze(-1)
    count = len(index)
    if count == 0:
        return result
    picked = index.expand(2) if count == 1 else index
    values = function(*(x[picked] for x in rows))
    merged = tuple(
        old.index_copy(0, index, new[:count]) for old, new in zip(result, values, strict=True)
    )
    return cast(Tensors, merged)
