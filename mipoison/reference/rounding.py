"""Validity of rows, labels, and the last rounding, which keeps the label strict."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from mipoison.reference.loops import traced

SUM_TOLERANCE: Final = {
    torch.float64: 1e-4,
    torch.float32: 1e-4,
    torch.float16: 1e-2,
    torch.bfloat16: 1e-2,
}
# Beyond this, differences and sums of entries leave the range of float64.
LARGEST: Final = 1e200
# A point to project with larger entries than this has lost the digits that distinguish them.
FARTHEST: Final = 1e15

# Of a unit in the last place; a little more than a half, so that no sum lies half-way.
_HALF: Final = 0.5 + 2.0**-7
_BITS: Final = {
    torch.float64: torch.int64,
    torch.float32: torch.int32,
    torch.float16: torch.int16,
    torch.bfloat16: torch.int16,
}


def finite_rows(x: Tensor) -> Tensor:
    """Rows whose entries are all finite and small enough to compute with; bool [N]."""
    return (x.to(torch.float64).abs() <= LARGEST).all(-1)


def near_rows(z: Tensor) -> Tensor:
    """Rows whose entries are small enough to be projected without loss of digits; bool [N]."""
    return (z.to(torch.float64).abs() <= FARTHEST).all(-1)


def valid_rows(p: Tensor) -> Tensor:
    """Rows that are probability vectors within the tolerance of their dtype; bool [N]."""
    total = p.to(torch.float64).sum(-1)
    close = (total - 1).abs() <= SUM_TOLERANCE[p.dtype]
    # (No entry of a row without negative ones whose sum is near one is NaN or infinite.)
    return (p.amin(-1) >= 0) & close


def renormalise(p: Tensor, valid: Tensor | None = None) -> Tensor:
    """P / Σp in float64 where valid (None: everywhere); else the uniform row, so that later steps stay finite."""
    p64 = p.to(torch.float64)
    scaled = p64 / p64.sum(-1, keepdim=True)
    if valid is None:
        return scaled
    return torch.where(valid.unsqueeze(-1), scaled, 1.0 / p.shape[-1])


def label_of(x: Tensor) -> Tensor:
    """Index of the largest entry, of equal ones the lowest; int64 [N]."""
    top = x.amax(-1, keepdim=True)
    # The least of int32 numbers takes torch a tenth of the time that it takes of int64.
    position = torch.arange(x.shape[-1], dtype=torch.int32, device=x.device)
    return torch.where(x == top, position, x.shape[-1] - 1).amin(-1).to(torch.int64)


def at(x: Tensor, t: Tensor) -> Tensor:
    """x[i, t_i]; [N]."""
    return x.gather(-1, t.unsqueeze(-1)).squeeze(-1)


def put(x: Tensor, t: Tensor, value: Tensor | float) -> Tensor:
    """A copy of x with x[i, t_i] = value_i."""
    if isinstance(value, float):
        value = torch.full(t.shape, value, dtype=x.dtype, device=x.device)
    return x.scatter(-1, t.unsqueeze(-1), value.unsqueeze(-1))


def lead(p: Tensor, t: Tensor) -> Tensor:
    """How far p_t lies above the largest other entry; negative where it lies below; [N]."""
    return at(p, t) - put(p, t, -torch.inf).amax(-1)


def row_margin(p: Tensor, t: Tensor, margin: float, shrink: bool) -> Tensor:
    """The row's margin m; with shrink no more than the lead of p_t, so that p is in C; [N]."""
    m = torch.full(t.shape, margin, dtype=torch.float64, device=p.device)
    if not shrink:
        return m
    return torch.minimum(m, lead(p, t).clamp_min(0.0))


def above(x: Tensor, dtype: torch.dtype) -> Tensor:
    """The next value of the dtype above x ≥ 0 (torch.nextafter does not know float16)."""
    if traced():
        # No standard operator of other formats reads a number's bits: add what rounds to one unit in the last place.
        wide, unit = x.to(torch.float64), torch.finfo(dtype)
        farther = torch.maximum(wide + wide * (unit.eps * _HALF), wide + unit.tiny * unit.eps)
        return farther.to(dtype)
    return ((x + 0.0).view(_BITS[dtype]) + 1).view(dtype)


def finish(q: Tensor, t: Tensor, m: Tensor, dtype: torch.dtype) -> Tensor:
    """Rounds q to the dtype such that q_t ≥ q_j + m and q_t > q_j hold *after* rounding.

    Rounding is monotone, so it can only violate the margin or make a tie. With r the largest other entry after
    rounding, q_t becomes the largest of q_t rounded, the smallest value ≥ r + m, and the value next above r. That
    changes q_t by at most one ulp more than rounding.
    """
    rounded = q.to(dtype)
    rest = put(rounded, t, -torch.inf).amax(-1)
    wanted = rest.to(torch.float64) + m
    floor = wanted.to(dtype)
    floor = torch.where(floor.to(torch.float64) < wanted, above(floor, dtype), floor)
    top = torch.maximum(torch.maximum(at(rounded, t), floor), above(rest, dtype))
    return put(rounded, t, top)


def safe_answer(source: Tensor, t: Tensor, dtype: torch.dtype) -> Tensor:
    """The answer to an invalid row: one-hot at t where the source is finite, else uniform."""
    k = source.shape[-1]
    known = finite_rows(source) & (t >= 0) & (t < k)
    hot = put(torch.zeros(source.shape, dtype=dtype, device=source.device), t.clamp(0, k - 1), 1.0)
    return torch.where(known.unsqueeze(-1), hot, torch.full_like(hot, 1.0 / k))
