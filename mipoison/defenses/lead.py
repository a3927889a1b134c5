"""Make an answer's label lead by a margin, so that the label survives a client's rounding or cast.

A label that leads by one unit in the last place of float32 is lost when a client prints six decimals. So the label of
an answer leads by the margin. Where a rounding still loses it but not that of the undefended row, the answer is moved
further.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from mipoison import ops
from mipoison.ops import rows
from mipoison.ops.rows import label_of
from mipoison.reference.project import distance
from mipoison.reference.rounding import at, finish, put
from mipoison.reference.rows import on_rows

# Twice the spacing of bfloat16 numbers below one: every 16-bit format distinguishes entries this far apart.
_APART: Final = 2.0**-7
# How much of a lead is lost when an answer is rounded to its dtype.
_ROUNDING: Final = {
    torch.float64: 2e-7,
    torch.float32: 2e-7,
    torch.float16: 2.0**-11,
    torch.bfloat16: 2.0**-8,
}
# An entry that the projection raises from zero by no more than this only corrects the rounding of the sum.
_NOTHING: Final = 2e-7
# Roundings to more decimals than this are finer than float32.
_FINEST: Final = 6


def least_lead(margin: float) -> float:
    """The lead from which on `keep_lead` leaves an answer as it is, whatever the row and its dtype; at most 1."""
    return min(1.0, max(margin, _APART) + max(_ROUNDING.values()))


def keep_lead(
    q: Tensor,
    p: Tensor,
    given: Tensor,
    *,
    margin: float,
    epsilon: float,
    norm: str,
    everywhere: bool,
) -> Tensor:
    """Moves the answers whose label leads by less than the margin and by less than in p.

    1. A row that leads by less is projected onto the answers that lead by the margin, where p is among them.
    2. A row that loses its label in a cast to 16 bits or a rounding within the margin, where the given row does not, is
       projected onto the answers that lead by what bfloat16 distinguishes, where p is among them.
    3. Where p leads by less than that, the only such answer is p: those rows are raised instead, see `_raised`.

    Args:
        q: answers, float32 or float64 [N, K].
        p: clean rows of q's dtype, each with a strict label.
        given: the rows as they came, [N, K], of the dtype in which the answers leave.
        margin: least lead, in [0, 1].
        epsilon: radius of the ball around p that q lies in; infinite for none.
        norm: its norm.
        everywhere: compute every step for every row and read nothing back.

    Returns:
        [N, K] of q's dtype, each row with p's label and in its ball.
    """
    if everywhere:
        return _kept(q, p, given, margin, epsilon, norm, everywhere=True)
    apart = min(max(margin, _APART) + _ROUNDING[given.dtype], 1.0)
    close, count = rows.stray(q, p, norm, most=math.inf, ahead=apart)
    if int(count) == 0:
        return q
    # The labels of the others lead far enough whatever is done with them.
    return on_rows(
        close,
        (q,),
        lambda q, p, given: (_kept(q, p, given, margin, epsilon, norm, everywhere=False),),
        *(q, p, given),
    )[0]


def _kept(
    q: Tensor,
    p: Tensor,
    given: Tensor,
    margin: float,
    epsilon: float,
    norm: str,
    *,
    everywhere: bool,
) -> Tensor:
    """The steps of `keep_lead`."""
    label = label_of(p)

    def leading(least: float) -> Callable[..., tuple[Tensor]]:
        def project(q: Tensor, p: Tensor, given: Tensor, label: Tensor) -> tuple[Tensor]:
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
            # Zeros stay zeros: the projection spreads the rounding error of the sum over them.
            return (torch.where((q == 0) & (nearest < _NOTHING), 0.0, nearest),)

        return project

    def lost(q: Tensor) -> Tensor:
        leaving = q
        if q.dtype != given.dtype:
            wide = q.to(torch.float64)
            leaving = finish(wide, label, torch.zeros_like(wide[:, 0]), given.dtype)
        return rows.lose_label(leaving, given, label, first, last)

    def raised(q: Tensor, p: Tensor, given: Tensor, label: Tensor) -> tuple[Tensor]:
        return (_raised(q, p, given, label, epsilon, norm),)

    def on(mask: Tensor, old: Tensor, function: Callable[..., tuple[Tensor]]) -> Tensor:
        if not everywhere:
            return on_rows(mask, (old,), function, q, p, given, label)[0]
        (new,) = function(q, p, given, label)
        return torch.where(mask.unsqueeze(-1) if new.ndim > 1 else mask, new, old)

    # Roundings within the margin; none without.
    first, last = (math.ceil(-math.log10(margin)), _FINEST) if margin > 0 else (1, 0)
    rounding = _ROUNDING[given.dtype]
    least = min(margin + rounding, 1.0)
    ahead = rows.lead(p, p)
    short = rows.lead(q, p) < ahead.clamp_max(least)
    q = on(short & (ahead >= least), q, leading(least))
    q = on(short & (ahead < least), q, raised)
    # Labels with a larger lead survive every cast and rounding.
    apart = min(max(margin, _APART) + rounding, 1.0)
    fails = (rows.lead(q, p) < apart) & lost(q)
    if not everywhere and not bool(fails.any()):
        return q
    q = on(fails & (ahead >= apart), q, leading(apart))
    return on(fails & lost(q), q, raised)


def _raised(
    q: Tensor, p: Tensor, given: Tensor, label: Tensor, epsilon: float, norm: str
) -> Tensor:
    """A move of the same length as that to q, in which the label's entry rises and no other does.

    A monotone rounding that keeps the label of the given row then keeps the label of the answer. The other entries are
    bounded by the largest of their side, before or after the label: of equal entries the lowest index is the label.
    """
    p64, q64 = p.to(torch.float64), q.to(torch.float64)
    # Renormalising changes the last bit of a 16-bit row. In a wider dtype the ball leaves no room for more than p.
    came = given.to(torch.float64) if given.dtype.itemsize == 2 else p64
    position = torch.arange(p.shape[1], device=p.device)
    index = label.unsqueeze(-1)
    lower = torch.minimum(p64, came)
    before = lower.masked_fill(position >= index, 0.0).amax(-1, keepdim=True)
    after = lower.masked_fill(position <= index, 0.0).amax(-1, keepdim=True)
    most = torch.where(position < index, before, after)
    p_t = at(p64, label)
    least = torch.maximum(p_t, at(came, label))
    there = _filled(torch.minimum(q64, most), p_t + (at(q64, label) - p_t).abs(), label)
    # Such answers form a convex set that contains p, so the move can be cut off at the ball.
    moved = p64 + (there - p64)
    if not math.isinf(epsilon):
        share = (epsilon / distance(there, p64, norm).clamp_min(1e-300)).clamp_max(1.0)
        moved = p64 + share.unsqueeze(-1) * (there - p64)
    moved = _filled(torch.minimum(moved, most), torch.maximum(at(moved, label), least), label)
    return finish(moved, label, torch.zeros_like(p_t), q.dtype)


def _filled(q: Tensor, top: Tensor, label: Tensor) -> Tensor:
    """Sets the label's entry to `top`, or to what the others leave where that is more, and scales the others down."""
    rivals = put(q, label, 0.0)
    total = rivals.sum(-1)
    top = torch.maximum(top.clamp_max(1.0), 1 - total)
    left = ((1 - top) / total.clamp_min(torch.finfo(torch.float64).tiny)).clamp(0.0, 1.0)
    return put(rivals * left.unsqueeze(-1), label, top)
