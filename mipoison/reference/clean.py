"""What a defense asks of rows: clean ones, how far labels lead, and rows softened for the key cells."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from mipoison.reference.network import in_tiles
from mipoison.reference.project import distance as length
from mipoison.reference.rounding import finish, label_of, renormalise, valid_rows
from mipoison.reference.rounding import lead as ahead

# Smaller entries become zero: some processes flush subnormal float32 numbers, and all must give the same answers.
SMALLEST: Final = torch.finfo(torch.float32).tiny
_TILE: Final = 256


def clean(p: Tensor) -> tuple[Tensor, Tensor]:
    """Renormalised rows in float32, each with a strict label; see `mipoison.defenses.clean.clean_rows`.

    Returns:
        float32 [N, K], uniform for an invalid row; and how many are invalid.
    """
    valid = valid_rows(p)
    label = torch.where(valid, label_of(p), 0)
    return renormalised(p, valid, label, torch.float32), (~valid).sum()


def renormalised(p: Tensor, valid: Tensor | None, label: Tensor, dtype: torch.dtype) -> Tensor:
    """Rows over their sums, uniform where they are not valid, rounded to the dtype with these labels strict."""
    rows = renormalise(p, valid)
    rows = torch.where(rows < SMALLEST, 0.0, rows)
    return finish(rows, label, torch.zeros_like(rows[:, 0]), dtype)


def lead(q: Tensor, p: Tensor) -> Tensor:
    """How far the label of p leads in q; float64 [N]."""
    return ahead(q.to(torch.float64), label_of(p))


def distance(q: Tensor, p: Tensor, norm: str) -> Tensor:
    """‖q − p‖ in float64, [N]."""
    return length(q.to(torch.float64), p.to(torch.float64), norm)


def stray(
    q: Tensor, p: Tensor, norm: str, least: float, most: float, ahead: float
) -> tuple[Tensor, Tensor]:
    """Answers that moved by less than `least` or more than `most`, or in which the label of p leads by too little.

    Returns:
        bool [N]; and how many they are.
    """
    length = distance(q, p, norm)
    out = ~((length >= least) & (length <= most)) | (lead(q, p) < ahead)
    return out, out.sum()


def lose_label(q: Tensor, given: Tensor, label: Tensor, first: int, last: int) -> Tensor:
    """Rows of q that lose their label where a client casts or rounds them and the given rows keep it; bool [N].

    The casts are those to 16 bits, the roundings those to as many decimals as from `first` to `last`.
    """
    result = torch.zeros_like(label, dtype=torch.bool)
    for form in (torch.float16, torch.bfloat16, *range(first, last + 1)):
        for served, undefended in zip(_read(q, form), _read(given, form), strict=True):
            kept, still = label_of(undefended) == label, label_of(served) == label
            result = result | (kept & ~still)
    return result


def _read(x: Tensor, form: torch.dtype | int) -> tuple[Tensor, ...]:
    """The row as a client reads it: cast to a dtype, or rounded to some decimals in float64 and in float32."""
    if isinstance(form, int):
        return tuple(torch.round(x.to(d), decimals=form) for d in (torch.float64, torch.float32))
    return (x.to(form),)


def soften(p: Tensor, temperature: float, floor: float) -> Tensor:
    """p^(1/temperature), normalised, float32; in tiles of fixed height, so that no row's bits depend on its place."""
    made = []
    for (tile,) in in_tiles(p.to(torch.float32), height=_TILE):
        powers = (tile.double().clamp_min(floor).log() / temperature).exp()
        made.append((powers / powers.sum(-1, keepdim=True)).to(torch.float32))
    return torch.cat(made)[: len(p)]
