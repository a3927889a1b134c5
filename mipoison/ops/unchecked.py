"""Operations without checks of their arguments and without reading anything back.

Defenses call them on rows that they have checked. An invalid row gets zeros, or the safe answer; what a network
recovers where its numbers overflow is NaN.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class Networks(Protocol):
    """M networks of one shape, and the mean of their outputs.

    Attributes:
        packed: what `Layers.packed` gives.
        members: M.
        width: units of each hidden layer.
        outputs: numbers that are predicted.
    """

    @property
    def packed(self) -> Tensor: ...  # noqa: D102
    @property
    def members(self) -> int: ...  # noqa: D102
    @property
    def width(self) -> int: ...  # noqa: D102
    @property
    def outputs(self) -> int: ...  # noqa: D102


class Packed(NamedTuple):
    """Networks that are nothing but packed; see `Networks`."""

    packed: Tensor
    members: int
    width: int
    outputs: int


def move(p: Tensor, target: Tensor, *, epsilon: float, norm: str, style: str) -> Tensor:
    """See `mipoison.move`."""
    moved: Tensor = torch.ops.mipoison.move(p, target, epsilon, norm, style)[0]
    return moved


def step(
    q: Tensor, g: Tensor, *, center: Tensor, alpha: float, epsilon: float, norm: str
) -> Tensor:
    """See `mipoison.step`."""
    stepped: Tensor = torch.ops.mipoison.step(q, g, center, None, alpha, epsilon, norm, 0.0, False)[
        0
    ]
    return stepped


def recover(p: Tensor, networks: Networks) -> Tensor:
    """See `mipoison.recover`."""
    found: Tensor = torch.ops.mipoison.recover(
        p.detach(), networks.packed, networks.members, networks.width, networks.outputs
    )[0]
    return found


def pull(q: Tensor, goal: Tensor, networks: Networks, *, smooth: bool) -> tuple[Tensor, Tensor]:
    """∇_q ½‖G(q) − goal‖² [N, K] and ‖G(q) − goal‖ [N], float32; see `reference.network.pull`."""
    gradient, distance, _ = torch.ops.mipoison.pull(
        q.detach(), goal, networks.packed, networks.members, networks.width, smooth
    )
    return gradient, distance


def distances(answers: Tensor, goal: Tensor, networks: Networks) -> Tensor:
    """‖G(q) − goal‖ of answers q [N, C, K] to rows whose goals are [N, D]: float32 [N, C], not finite for overflow."""
    found: Tensor = torch.ops.mipoison.distances(
        answers, goal, networks.packed, networks.members, networks.width
    )
    return found


def perturb(
    q: Tensor,
    goal: Tensor,
    networks: Networks,
    *,
    center: Tensor,
    steps: int,
    alpha: float,
    epsilon: float,
    norm: str,
    smooth: bool,
    near: Tensor | None = None,
) -> Tensor:
    """See `mipoison.perturb`."""
    moved: Tensor = torch.ops.mipoison.perturb(
        q,
        goal,
        networks.packed,
        networks.members,
        networks.width,
        center,
        near,
        steps,
        alpha,
        epsilon,
        norm,
        0.0,
        False,
        smooth,
    )[0]
    return moved
