"""Rows as a defense computes with them: renormalised, in one of two dtypes, each with a strict label."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mipoison.exporting import eager, exporting
from mipoison.ops import rows
from mipoison.ops.rows import label_of
from mipoison.ops.validation import as_rows, require_probabilities
from mipoison.reference import valid_rows
from mipoison.reference.clean import renormalised
from mipoison.reference.rounding import finish, finite_rows


def clean_rows(p: Tensor, valid: Tensor | None = None) -> Tensor:
    """Renormalises rows, in float32 (float64 stays), each with a strict label.

    Tolerances apply to the given rows only: a clean row sums to one, so no operation refuses it.

    Args:
        p: outputs, [N, K].
        valid: the rows that are probability vectors, bool [N]; the others become uniform rows. None: all are.

    Returns:
        [N, K], float32 or float64.
    """
    dtype = torch.float64 if p.dtype == torch.float64 else torch.float32
    return renormalised(p, valid, label_of(p), dtype)


def cleaned(p: Tensor) -> tuple[Tensor, Tensor]:
    """Clean rows, see `clean_rows`, and the number of rows that are no probability vectors."""
    if p.dtype != torch.float64 and not exporting():
        return rows.clean(p)
    valid = valid_rows(p)
    return clean_rows(p, valid), (~valid).sum()


def softmax_of(logits: Tensor, temperature: float) -> Tensor:
    """The softmax of logits [N, K] at the temperature, of their dtype; no label of 16-bit ones is lost in rounding."""
    # In 16 bits the quotient overflows at low temperatures, and labels tie at high ones.
    wide = torch.promote_types(logits.dtype, torch.float32)
    rows = torch.softmax(logits.contiguous().to(wide) / temperature, dim=-1)
    if wide == logits.dtype:
        return rows
    finite = finite_rows(rows).unsqueeze(-1)
    return torch.where(finite, as_dtype(rows, logits.dtype, label_of(logits)), torch.nan)


def in_memory(p: Tensor) -> bool:
    """Whether reading back what was computed of these rows costs nothing and is possible: plain tensors of the CPU."""
    return type(p) is Tensor and p.is_cpu and eager()


def defender_rows(outputs: Any, name: str = "outputs") -> Tensor:
    """Checks the outputs that a defense is fitted on, and returns them clean and without gradient.

    Raises:
        TypeError: for a wrong kind or dtype.
        ValueError: for a wrong shape, no rows, or rows that are no probability vectors.
    """
    given = as_rows(name, outputs).detach()
    if len(given) == 0:
        raise ValueError(
            f"expected {name} with a row or more, got none; pass the classifier's answers to data of your own"
        )
    require_probabilities(name, given)
    return clean_rows(given)


def as_dtype(q: Tensor, dtype: torch.dtype, label: Tensor | None = None) -> Tensor:
    """Rounds rows to the dtype and keeps each label strict."""
    if q.dtype == dtype:
        return q
    return _rounded(q.to(torch.float64), dtype, label_of(q) if label is None else label)


def _rounded(q: Tensor, dtype: torch.dtype, label: Tensor) -> Tensor:
    """float64 rows rounded to the dtype, with a strict label."""
    return finish(q, label, torch.zeros_like(q[:, 0]), dtype)
