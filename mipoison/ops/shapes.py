"""What operators return, as tensors without numbers: shapes and dtypes for tracing."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def rows_and_status(first: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    """Rows of the first argument's shape and dtype, and a number."""
    return torch.empty_like(first, memory_format=torch.contiguous_format), first.new_empty(
        (), dtype=torch.int64
    )


def integers(p: Tensor) -> Tensor:
    """One for each row."""
    return p.new_empty(p.shape[:1], dtype=torch.int64)


def rows_integers_and_status(p: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, an integer for each, and a number."""
    q, status = rows_and_status(p)
    return q, integers(p), status


def words(p: Tensor, key: Tensor, draw: int, grid: float, words: int) -> Tensor:
    """Keyed words of each row."""
    return p.new_empty((p.shape[0], words), dtype=torch.int64)


def status_alone(*args: Any) -> Tensor:
    """A number."""
    out: Tensor = args[-1]
    return out.new_empty((), dtype=torch.int64)


def integers_and_status(*args: Any) -> tuple[Tensor, Tensor]:
    """An integer for each row, and a number."""
    return integers(args[0]), status_alone(*args)


def recovered(
    p: Tensor, network: Tensor, members: int, width: int, outputs: int
) -> tuple[Tensor, Tensor]:
    """What networks recover from each row, and a number."""
    found = p.new_empty((p.shape[0], outputs), dtype=torch.float32)
    return found, p.new_empty((), dtype=torch.int64)


def distances(answers: Tensor, *_: Any) -> Tensor:
    """A distance for each answer to a row."""
    return answers.new_empty(answers.shape[:2], dtype=torch.float32)


def pulled(q: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    """A gradient and a distance for each row, and a number."""
    gradient = torch.empty_like(q, dtype=torch.float32, memory_format=torch.contiguous_format)
    return gradient, gradient.new_empty(q.shape[:1]), q.new_empty((), dtype=torch.int64)


def clean(p: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of float32, and a number."""
    return torch.empty_like(
        p, dtype=torch.float32, memory_format=torch.contiguous_format
    ), p.new_empty((), dtype=torch.int64)


def number_a_row(q: Tensor, *_: Any) -> Tensor:
    """A float64 number for each row."""
    return q.new_empty(q.shape[:1], dtype=torch.float64)


def truth_a_row(q: Tensor, *_: Any) -> Tensor:
    """Whether something holds, for each row."""
    return q.new_empty(q.shape[:1], dtype=torch.bool)


def truths_and_status(q: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    """Whether something holds, for each row, and a number."""
    return truth_a_row(q), q.new_empty((), dtype=torch.int64)


def softened(p: Tensor, *_: Any) -> Tensor:
    """Rows of float32."""
    return torch.empty_like(p, dtype=torch.float32, memory_format=torch.contiguous_format)


def picked(p: Tensor, *bank: Any) -> tuple[Tensor, Tensor]:
    """A vector and its place for each of a row's words."""
    words = bank[-1].shape
    return p.new_empty((*words, p.shape[1])), p.new_empty(words, dtype=torch.int64)


def nearest(p: Tensor, *rest: Any) -> Tensor:
    """A vector for each of a row's subsets."""
    return p.new_empty((p.shape[0], rest[-1], p.shape[1]))


def chosen(p: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    """A place and a share for each row."""
    return integers(p), p.new_empty(p.shape[:1])


def rows(p: Tensor, *_: Any) -> Tensor:
    """Rows like the first argument."""
    return torch.empty_like(p, memory_format=torch.contiguous_format)
