"""The derivative of the projection with respect to z, in closed form from the active constraints.

While the active constraints stay the same, the projection is linear. J projects onto the directions that they leave
free, so it is symmetric, and one function serves as JVP and VJP.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from mipoison.reference.rounding import at, put

# q is solved to about 1e-15; an entry within this distance of a constraint lies on it.
_ON: Final = 1e-11
# The border of the l2 ball is found by a root search, hence less precisely.
_ON_SPHERE: Final = 1e-9


def _tie(v: Tensor, group: Tensor, fixed: Tensor) -> Tensor:
    """Zero on the fixed entries, and the group's mean on the entries that move together."""
    v = torch.where(fixed, 0.0, v)
    size = group.sum(-1, keepdim=True).clamp_min(1)
    mean = torch.where(group, v, 0.0).sum(-1, keepdim=True) / size
    return torch.where(group, mean, v)


def _remove(v: Tensor, normals: list[Tensor]) -> Tensor:
    """V without its components along the normals, orthogonalised one after the other."""
    for i, normal in enumerate(normals):
        square = (normal * normal).sum(-1, keepdim=True)
        inverse = torch.where(square > _ON**2, 1 / square, 0.0)
        v = v - (v * normal).sum(-1, keepdim=True) * inverse * normal
        normals[i + 1 :] = [
            later - (later * normal).sum(-1, keepdim=True) * inverse * normal
            for later in normals[i + 1 :]
        ]
    return v


def tangent(
    v: Tensor, q: Tensor, p: Tensor, t: Tensor, m: Tensor, epsilon: float, norm: str
) -> Tensor:
    """Projects v onto the directions that are free at q.

    - zero entries stay; the label and the entries at its cap q_t − m move together; the sum stays;
    - l∞: entries at the ball's faces stay;
    - l1, ball active: unmoved entries stay, the raised and the lowered keep their sums;
    - l2, ball active: nothing moves along q − p. The caller applies the factor s.

    Args:
        v: directions, float64 [N, K].
        q: the projections before rounding, float64 [N, K].
        p: centers, float64 [N, K].
        t: labels, int64 [N].
        m: margins, float64 [N].
        epsilon: radius; inf for no ball.
        norm: "l1", "l2" or "linf".

    Returns:
        J v up to the factor s, float64 [N, K].
    """
    cap = (at(q, t) - m).unsqueeze(-1)
    fixed = put(q <= _ON, t, torch.zeros_like(t, dtype=torch.bool))
    group = put((q >= cap - _ON) & ~fixed, t, torch.ones_like(t, dtype=torch.bool))
    move = q - p
    normals = [torch.ones_like(v)]
    if norm == "linf":
        fixed = fixed | (move.abs() >= epsilon - _ON)
    elif norm == "l1":
        active = (move.abs().sum(-1, keepdim=True) >= epsilon - _ON).expand_as(v)
        fixed = fixed | (active & (move.abs() <= _ON))
        side = torch.where(active & (move < 0), torch.zeros_like(v), 1.0)
        normals = [side, 1 - side]
    elif norm == "l2":
        active = move.norm(dim=-1, keepdim=True) >= epsilon - _ON_SPHERE
        normals.append(torch.where(active, move, 0.0))
    held = (group & fixed).any(-1, keepdim=True)
    fixed, group = fixed | (group & held), group & ~held
    return _remove(_tie(v, group, fixed), [_tie(normal, group, fixed) for normal in normals])
