"""The nearest codeword of a row's label."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from mipoison.reference.loops import traced
from mipoison.reference.rounding import (
    finish,
    label_of,
    renormalise,
    safe_answer,
    valid_rows,
)
from mipoison.reference.rows import on_rows

# What one unit of a distance is: 1 / UNITS.
UNITS: Final = 1 << 29
# How far the units of a codeword's entries may add up from UNITS, beside one unit lost by each entry.
SUM_UNITS: Final = int(1e-4 * UNITS)
# Differences of rows and codewords are taken of so many entries at a time.
_ENTRIES: Final = 1 << 22


def units(x: Tensor) -> Tensor:
    """Entries in [0, 2) as whole units, what is left over cut off; int64."""
    return (x.to(torch.float64) * UNITS).to(torch.int64)


def usable_codewords(codewords: Tensor, offsets: Tensor | None) -> Tensor:
    """Labels t whose codewords c_t1 … c_tM are all probability vectors in which no entry is above that of t; bool [K].

    Offsets must lie in [0, 1].
    """
    k = codewords.shape[0]
    label = torch.arange(k, device=codewords.device).view(k, 1, 1)
    top = codewords.take_along_dim(label, 2)
    inside = ((codewords >= 0) & (codewords <= top) & (top < 2)).all(2)
    total = units(torch.where(inside.unsqueeze(2), codewords, 0.0)).sum(2)
    good = inside & ((total - UNITS).abs() <= SUM_UNITS + k)
    if offsets is not None:
        good = good & (offsets >= 0) & (offsets <= 1)
    return good.all(1)


def nearest(p: Tensor, t: Tensor, codewords: Tensor, offsets: Tensor | None) -> Tensor:
    """Argmin_m ‖p − c_tm‖₁ + o_tm in whole units, of equal ones the lowest; int64 [N]."""
    mine = codewords[t]
    distance = (units(mine) - units(p).unsqueeze(1)).abs().sum(2)
    if offsets is not None:
        distance = distance + units(offsets)[t]
    return distance.argmin(1)


def quantize(p: Tensor, codewords: Tensor, offsets: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Argmin_m ‖p − c_tm‖₁ + o_tm: the nearest codeword of the row's label t, each with an additive offset.

    Distances are sums of whole numbers, so that every backend finds the same ones in whatever order it adds, and of
    equally near codewords the first wins everywhere. Shapes and meanings as in `mipoison.quantize`.

    Returns:
        the codewords renormalised [N, K] of p's dtype, their indices m [N] (−1 for an invalid row), and the mask of
        valid rows [N]. A row is invalid, too, where a codeword of its label is.
    """
    t = label_of(p)
    valid = valid_rows(p) & usable_codewords(codewords, offsets)[t]

    def chosen(p: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        m = nearest(p, t, codewords, offsets)
        q = renormalise(codewords[t, m])
        return finish(q, t, torch.zeros_like(q[:, 0]), p.dtype), m

    def in_parts(p: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        if traced():
            return chosen(p, t)
        size = max(1, _ENTRIES // codewords[0].numel())
        parts = [chosen(*part) for part in zip(p.split(size), t.split(size), strict=True)]
        answers, indices = zip(*parts, strict=True)
        return torch.cat(answers), torch.cat(indices)

    refused = (safe_answer(p, t, p.dtype), torch.full_like(t, -1))
    q, index = on_rows(valid, refused, in_parts, p, t)
    return q, index, valid
