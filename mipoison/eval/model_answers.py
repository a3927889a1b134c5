"""Find the scores in what a classifier of somebody else's answers with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

# What libraries call them, the most telling first.
_NAMES: Final = ("logits", "probs", "probabilities")


def scores_in(answer: Any) -> Tensor:
    """The logits or probabilities ``[n, K]`` of an answer, in float32.

    Args:
        answer: a tensor or array; something with one as attribute or key "logits", "probs" or "probabilities", as
            Hugging Face's outputs have; or a tuple whose first member is one and no other is of its shape.

    Raises:
        ValueError: if it is something else.

    Example:
        >>> scores_in({"loss": 1.0, "logits": torch.tensor([[0.5, 2.0]])})
        tensor([[0.5000, 2.0000]])
    """
    found = _found(answer)
    if found is None:
        raise ValueError(
            f"expected a tensor or an array of scores [n, K], or one called {', '.join(_NAMES)}, got "
            f"{_described(answer)}; wrap it in a function that returns the scores"
        )
    return found.detach().to("cpu", torch.float32)


def _found(answer: Any) -> Tensor | None:
    if isinstance(answer, Tensor):
        return None if answer.is_complex() else answer
    if isinstance(answer, np.ndarray):
        real = answer.dtype.kind in "fiub"
        return torch.from_numpy(answer.astype(np.float32)) if real else None
    for name in _NAMES:
        part = answer.get(name) if isinstance(answer, Mapping) else getattr(answer, name, None)
        if isinstance(part, Tensor | np.ndarray):
            return _found(part)
    if isinstance(answer, Sequence) and not isinstance(answer, str | bytes) and len(answer):
        return _first(answer)
    return None


def _first(answer: Sequence[Any]) -> Tensor | None:
    """Of several tensors the first, if no other could be meant; rows one under the other, also those of numbers."""
    shapes = [
        tuple(part.shape) if isinstance(part, Tensor | np.ndarray) else None for part in answer
    ]
    first = shapes[0]
    if first is not None and len(first) == 2 and shapes.count(first) == 1:
        return _found(answer[0])
    rows = isinstance(answer, list) and len(set(shapes)) == 1
    if rows and first is not None and len(first) == 1:
        return torch.stack([torch.as_tensor(row, dtype=torch.float32) for row in answer])
    if rows and first is None:
        try:
            return torch.tensor(answer, dtype=torch.float32)
        except (ValueError, TypeError, RuntimeError):
            return None
    return None


def _described(answer: Any) -> str:
    """Its type, and what it is made of."""
    kind = type(answer).__name__
    if isinstance(answer, Mapping):
        return f"{kind} with {', '.join(map(str, answer)) or 'nothing'}"
    if isinstance(answer, tuple | list):
        parts = [
            f"{type(part).__name__} {list(part.shape)}"
            if hasattr(part, "shape")
            else type(part).__name__
            for part in answer[:4]
        ]
        return f"{kind} of {', '.join(parts) or 'nothing'}"
    if isinstance(answer, Tensor | np.ndarray):
        return f"{kind} of {answer.dtype}"
    return kind
