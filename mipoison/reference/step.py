"""One normalised gradient step and its projection."""

from __future__ import annotations

import torch
from torch import Tensor

from mipoison.reference.project import project
from mipoison.reference.rounding import finite_rows, label_of, safe_answer
from mipoison.reference.rows import on_rows


def unit(g: Tensor) -> Tensor:
    """g/‖g‖₂ in float64, zero where g is zero; scaled first, so that squares neither overflow nor vanish."""
    g64 = g.to(torch.float64)
    scale = g64.abs().amax(-1, keepdim=True)
    scaled = torch.where(scale > 0, g64 / scale, 0.0)
    length = (scaled * scaled).sum(-1, keepdim=True).sqrt()
    return torch.where(length > 0, scaled / length, 0.0)


def step(
    q: Tensor,
    g: Tensor,
    p: Tensor | None,
    t: Tensor | None,
    alpha: float,
    epsilon: float | None,
    norm: str,
    margin: float,
    shrink: bool,
) -> tuple[Tensor, Tensor]:
    """project(q + α·g/‖g‖₂): one step of projected ascent along g; rows with g = 0 are only projected.

    Shapes and meanings as in `mipoison.step`.

    Returns:
        the stepped rows [N, K] and the mask of valid rows [N].
    """
    usable = finite_rows(q) & finite_rows(g)
    direction = torch.zeros_like(q, dtype=torch.float64)
    (direction,) = on_rows(usable, (direction,), lambda g: (unit(g),), g)
    moved = q.to(torch.float64) + alpha * direction
    # NaN marks a row that cannot step, so that `project` finds it invalid.
    z = torch.where(usable.unsqueeze(-1), moved, torch.nan)
    source = q if p is None else p
    label = label_of(source) if t is None else t
    result, valid = project(z, p, label, epsilon, norm, margin, shrink, q.dtype)
    return torch.where(valid.unsqueeze(-1), result, safe_answer(source, label, q.dtype)), valid
