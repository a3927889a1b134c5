"""Keep the label's lead, so that it survives whatever a client rounds or casts an answer to.

A label that leads by one unit in the last place is kept in float32, and lost by the first reader who prints six
decimals. An answer leads by the margin; where it still loses its label to a rounding that the undefended row survives,
it is moved until it survives as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from mipoison import ops
from mipoison.reference import label_of
from mipoison.reference.project import distance
from mipoison.reference.rounding import at, finish, lead, put
from mipoison.reference.rows import on_rows

# Twice the spacing of bfloat16 numbers below one: entries so far apart are told apart by every 16-bit format.
_APART: Final = 2.0**-7
# A margin of 10⁻ᵈ keeps labels at d decimals only if rounding to float32 leaves a little of it.
_SLACK: Final = 2e-7
# Finer roundings than this many decimals are finer than float32 itself.
_FINEST: Final = 6


def keep_lead(
    q: Tensor, p: Tensor, *, margin: float, epsilon: float, norm: str, everywhere: bool
) -> Tensor:
    """The answers, moved where their label leads by less than the margin, or than in p where that is less.

    1. A row that leads by less is projected onto the answers that lead by the margin.
    2. A row whose label a cast to 16 bits or a rounding within the margin loses, and not p's, is projected onto those
       that lead by what bfloat16 tells apart.
    3. A row that is still lost, since p itself leads by less than that, moves the other way: see `_raised`.

    Args:
        q: answers, float32 or float64 [N, K].
        p: clean rows of q's dtype, each with a strict label.
        margin: least lead, in [0, 1].
        epsilon: radius of the ball around p that q lies in; infinite for none.
        norm: its norm.
        everywhere: compute every step for every row and read nothing back.

    Returns:
        [N, K] of q's dtype, each row with p's label and in its ball.
    """
    label = label_of(p)

    def leading(least: float) -> Callable[..., tuple[Tensor]]:
        def project(q: Tensor, p: Tensor, label: Tensor) -> tuple[Tensor]:
            nearest = ops.project(
                q,
                center=p,
                label=label,
                epsilon=epsilon,
                norm=norm,
                margin=least,
                shrink=True,
                validate=False,
            )
            # What an answer hides stays hidden: the projection spreads what the sum lacks for rounding.
            return (torch.where((q == 0) & (nearest < _SLACK), 0.0, nearest),)

        return project

    def lost(q: Tensor, p: Tensor, label: Tensor) -> tuple[Tensor]:
        return (_lost(q, p, label, margin),)

    def raised(q: Tensor, p: Tensor, label: Tensor) -> tuple[Tensor]:
        return (_raised(q, p, label, epsilon, norm),)

    def on(mask: Tensor, old: Tensor, function: Callable[..., tuple[Tensor]]) -> Tensor:
        if not everywhere:
            return on_rows(mask, (old,), function, q, p, label)[0]
        (new,) = function(q, p, label)
        return torch.where(mask.unsqueeze(-1) if new.ndim > 1 else mask, new, old)

    least = min(margin + _SLACK, 1.0)
    q = on(lead(q, label) < lead(p, label).clamp_max(least), q, leading(least))
    # Entries that lie farther apart survive all of it.
    near = lead(q, label) < max(least, _APART)
    none = torch.zeros_like(near)
    fails = on(near, none, lost)
    q = on(fails, q, leading(_APART))
    fails = on(fails, none, lost)
    return on(fails, q, raised)


def _lost(q: Tensor, p: Tensor, label: Tensor, margin: float) -> Tensor:
    """Rows whose label is lost by a cast or rounding that p's survives; bool [N]."""
    decimals = range(math.ceil(-math.log10(margin)), _FINEST + 1) if margin > 0 else ()
    result = torch.zeros_like(label, dtype=torch.bool)
    for form in (torch.float16, torch.bfloat16, *decimals):
        kept, still = (label_of(_served(x, form)) == label for x in (p, q))
        result = result | (kept & ~still)
    return result


def _served(x: Tensor, form: torch.dtype | int) -> Tensor:
    """What a client reads who casts to a dtype, or who is told so many decimals."""
    if isinstance(form, int):
        return torch.round(x.to(torch.float64), decimals=form)
    return x.to(form)


def _raised(q: Tensor, p: Tensor, label: Tensor, epsilon: float, norm: str) -> Tensor:
    """A move as far as that to q, by which the label's entry rises and its rivals do not.

    Whatever keeps the order of entries as they are rounded, and p's label, keeps the label of such an answer. Rivals
    are bounded on both sides of the label for themselves: of equal entries the lowest index is the label.
    """
    p64, q64 = p.to(torch.float64), q.to(torch.float64)
    position = torch.arange(p.shape[1], device=p.device)
    index = label.unsqueeze(-1)
    before = p64.masked_fill(position >= index, 0.0).amax(-1, keepdim=True)
    after = p64.masked_fill(position <= index, 0.0).amax(-1, keepdim=True)
    most = torch.where(position < index, before, after)
    own = at(p64, label)
    rivals = put(torch.minimum(q64, most), label, 0.0)
    total = rivals.sum(-1)
    top = torch.maximum((own + (at(q64, label) - own).abs()).clamp_max(1.0), 1 - total)
    left = (1 - top) / total.clamp_min(torch.finfo(torch.float64).tiny)
    there = put(rivals * left.clamp(0.0, 1.0).unsqueeze(-1), label, top)
    # p is among such answers, and they are a convex set: the ball cuts the move off.
    share = (epsilon / distance(there, p64, norm).clamp_min(1e-300)).clamp_max(1.0)
    moved = torch.minimum(p64 + share.unsqueeze(-1) * (there - p64), most)
    return finish(
        put(moved, label, torch.maximum(at(p64, label), own + share * (top - own))),
        label,
        torch.zeros_like(own),
        q.dtype,
    )
