"""Small networks on [p, log p]: what they recover from a row, its gradient, and steps along that.

G(q) = W₃ᵀ relu(W₂ᵀ relu(W₁ᵀ x + b₁) + b₂) + b₃ with standardised features x = (φ(q) − μ)/σ of
φ(q) = [q, log max(q, floor)]. For several members G is their mean. With s₁ and s₂ the slopes of the hidden units, the
chain rule gives

    ∇_q ½‖G(q) − g‖² = J_φ(q)ᵀ W₁(s₁ ∘ W₂(s₂ ∘ W₃(G(q) − g)))/σ.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from mipoison.reference.project import project
from mipoison.reference.rounding import finish, label_of, safe_answer, valid_rows
from mipoison.reference.step import step

# The logarithms of smaller entries are those of this floor: below it, float32 confidences are noise.
LOG_FLOOR: Final = 1e-7
# Layer widths are multiples of this, filled up with units that nothing depends on.
LANES: Final = 32
# Smooth derivatives, for steps that must not depend on a row's last bits. Exact ones jump: that of the logarithm from
# 1e7 to zero at the floor, so that a step follows whichever entry is smallest, and ReLU's where a unit is switched on;
# up to one row in twenty was answered otherwise in another batch. The first is an entry below which the logarithm's
# derivative falls to zero, the second an activity up to which ReLU's rises to one.
SMOOTHING: Final = 1e-3
RAMP: Final = 0.5
# Rows in a tile. A matrix product rounds differently at another batch size, so every tile has the same height.
_TILE: Final = 64


def whole_lanes(size: int) -> int:
    """The size rounded up to whole lanes."""
    return size + -size % LANES


class Layers(NamedTuple):
    """The tensors of M networks of one shape: F features, H units in each hidden layer, D outputs, in whole lanes.

    Attributes:
        mean: μ [F].
        inverse: 1/σ [F].
        weight0: W₁ [M, F, H].
        bias0: b₁ [M, 1, H].
        weight1: W₂ [M, H, H].
        bias1: b₂ [M, 1, H].
        weight2: W₃ [M, H, D].
        bias2: b₃ [M, 1, D].
        back2: W₃ᵀ [M, D, H], which errors go back through.
        back1: W₂ᵀ [M, H, H].
        back0: W₁ᵀ [M, H, F].
    """

    mean: Tensor
    inverse: Tensor
    weight0: Tensor
    bias0: Tensor
    weight1: Tensor
    bias1: Tensor
    weight2: Tensor
    bias2: Tensor
    back2: Tensor
    back1: Tensor
    back0: Tensor

    @classmethod
    def of(cls, mean: Tensor, scale: Tensor, state: list[Tensor]) -> Layers:
        """Those of weights [M, in, out] and biases [M, 1, out] in turn, for features (φ − mean) / scale."""
        w0, b0, w1, b1, w2, b2 = state
        back = (w.transpose(1, 2) for w in (w2, w1, w0))
        return cls(mean, 1 / scale, w0, b0, w1, b1, w2, b2, *back)

    def packed(self) -> Tensor:
        """All of them one after the other, float32 [L]: the operators' form."""
        return torch.cat([x.reshape(-1) for x in self]).contiguous()

    @classmethod
    def unpacked(cls, network: Tensor, k: int, members: int, width: int) -> Layers:
        """Those that were packed.

        Raises:
            ValueError: where the length is that of no such networks.
        """
        f = whole_lanes(2 * k)
        once, each = 2 * f, 2 * f * width + 2 * width * width + 2 * width
        left, m = network.numel() - once - members * each, members
        d = max(0, left) // (m * (2 * width + 1))
        if left <= 0 or left != m * d * (2 * width + 1):
            raise ValueError(
                f"expected {members} networks of width {width} for K={k}, packed by Layers, got {network.numel()} "
                "numbers, which are none"
            )
        shapes = (
            *((f,), (f,), (m, f, width), (m, 1, width), (m, width, width), (m, 1, width)),
            *((m, width, d), (m, 1, d), (m, d, width), (m, width, width), (m, width, f)),
        )
        parts = network.split([torch.Size(shape).numel() for shape in shapes])
        return cls(*(part.view(shape) for part, shape in zip(parts, shapes, strict=True)))

    def to(self, dtype: torch.dtype) -> Layers:
        """The same in another dtype."""
        return Layers(*(x.to(dtype) for x in self))


def features(outputs: Tensor, *, smooth: bool = False) -> Tensor:
    """[p, log p] with a floor, padded with zeros to whole lanes: [..., K] → [..., F].

    An adversary who takes logarithms recovers far more than one who does not, so a surrogate must see both.

    Args:
        outputs: confidence vectors.
        smooth: the derivative of log p is taken as that of ½ log(p² + s²), with a fixed s; the value is that of log p.
    """
    log = outputs.clamp_min(LOG_FLOOR).log()
    if smooth:
        log = derived(log, 0.5 * (outputs.square() + SMOOTHING**2).log())
    both = torch.cat((outputs, log), dim=-1)
    return F.pad(both, (0, -both.shape[-1] % LANES))


def derived(value: Tensor, other: Tensor) -> Tensor:
    """The value, with the derivative of the other."""
    return value.detach() + (other - other.detach())


def slope(active: Tensor, smooth: bool) -> Tensor:
    """ReLU's derivative at units of these activities, a constant; with `smooth`, it rises along a ramp from 0 to 1."""
    return (active.detach() / RAMP).clamp_max(1) if smooth else active > 0


def in_tiles(*tensors: Tensor, height: int = _TILE) -> list[tuple[Tensor, ...]]:
    """The tensors cut into tiles of equal height, the last one padded with zeros."""
    n = tensors[0].shape[0]
    padded = [F.pad(x, (0, 0, 0, -n % height)) for x in tensors]
    return list(zip(*(torch.split(x, height) for x in padded), strict=True))


def _forward(layers: Layers, q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Activities of both hidden layers, [M, B, H], and the mean output, [B, D]."""
    x = (features(q) - layers.mean) * layers.inverse
    x = x.expand(len(layers.weight0), *x.shape)
    first = torch.baddbmm(layers.bias0, x, layers.weight0).relu()
    second = torch.baddbmm(layers.bias1, first, layers.weight1).relu()
    return first, second, torch.baddbmm(layers.bias2, second, layers.weight2).mean(0)


def _pulled(layers: Layers, q: Tensor, goal: Tensor, smooth: bool) -> tuple[Tensor, Tensor]:
    """∇ ½‖G(q) − goal‖² and ‖G(q) − goal‖, [B, K] and [B]."""
    first, second, output = _forward(layers, q)
    # 1. Outputs beyond the goal's have no error.
    error = output[:, : goal.shape[1]] - goal
    share = F.pad(error, (0, output.shape[1] - goal.shape[1])) / len(first)
    # 2. The error at every layer before its ReLU.
    carried = torch.matmul(share, layers.back2) * slope(second, smooth)
    carried = torch.bmm(carried, layers.back1) * slope(first, smooth)
    # 3. Back through the features.
    g = torch.bmm(carried, layers.back0).sum(0) * layers.inverse
    k = q.shape[1]
    if smooth:
        inverse = q / (q.square() + SMOOTHING**2)
    else:
        # Below their floor the logarithms are constant.
        inverse = torch.where(q > LOG_FLOOR, 1 / q.clamp_min(LOG_FLOOR), 0.0)
    return g[:, :k] + g[:, k : 2 * k] * inverse, error.square().sum(1).sqrt()


def recover(
    p: Tensor, network: Tensor, members: int, width: int, outputs: int
) -> tuple[Tensor, Tensor]:
    """G(p), the first so many outputs: what small networks recover from each row, in float64.

    Returns:
        float32 [N, outputs], zeros for an invalid row and NaN for one whose numbers overflow; and the mask of the other
        rows [N].
    """
    layers = Layers.unpacked(network, p.shape[1], members, width).to(torch.float64)
    valid = valid_rows(p)
    rows = torch.where(valid.unsqueeze(-1), p.to(torch.float64), 1 / p.shape[1])
    made = [_forward(layers, tile)[-1][:, :outputs] for (tile,) in in_tiles(rows)]
    found = _joined(made, len(p), p.new_empty((0, outputs))).to(torch.float32)
    kept = valid & found.isfinite().all(1)
    lost = torch.zeros_like(found).masked_fill(valid.unsqueeze(-1), torch.nan)
    return torch.where(kept.unsqueeze(-1), found, lost), kept


def distances(answers: Tensor, goal: Tensor, network: Tensor, members: int, width: int) -> Tensor:
    """‖G(q) − goal‖ of answers q [N, C, K] to rows whose goals are [N, D]; float32 [N, C], not finite for overflow."""
    rows = answers.flatten(0, 1)
    found, _ = recover(rows, network, members, width, goal.shape[1])
    error = found.view(*answers.shape[:2], -1) - goal.unsqueeze(1)
    return error.square().sum(-1).sqrt()


def pull(
    q: Tensor, goal: Tensor, network: Tensor, members: int, width: int, smooth: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """∇_q ½‖G(q) − goal‖² and ‖G(q) − goal‖, in float64.

    Returns:
        float32 [N, K] and [N], zeros for an invalid row or one whose numbers overflow; and the mask of valid rows [N].
    """
    layers = Layers.unpacked(network, q.shape[1], members, width).to(torch.float64)
    valid = valid_rows(q) & goal.isfinite().all(1)
    rows = torch.where(valid.unsqueeze(-1), q.to(torch.float64), 1 / q.shape[1])
    goal = torch.where(valid.unsqueeze(-1), goal, 0.0).to(torch.float64)
    made = [_pulled(layers, x, wanted, smooth) for x, wanted in in_tiles(rows, goal)]
    gradient = _joined([g for g, _ in made], len(q), rows).to(torch.float32)
    distance = _joined([d for _, d in made], len(q), rows[:, 0]).to(torch.float32)
    valid = valid & gradient.isfinite().all(1) & distance.isfinite()
    return (
        torch.where(valid.unsqueeze(-1), gradient, 0.0),
        torch.where(valid, distance, 0.0),
        valid,
    )


def perturb(
    p: Tensor,
    goal: Tensor,
    network: Tensor,
    members: int,
    width: int,
    center: Tensor | None,
    near: Tensor | None,
    steps: int,
    alpha: float,
    epsilon: float | None,
    norm: str,
    margin: float,
    shrink: bool,
    smooth: bool,
) -> tuple[Tensor, Tensor]:
    """Steps of length α against ∇ ½‖G(q) − goal‖² from q = p, each projected onto C(center, label, ε, m).

    Shapes and meanings as in `mipoison.perturb`.

    Returns:
        the rows after all steps, [N, K] of p's dtype, and the mask of valid rows [N].
    """
    if steps < 1:
        raise ValueError(f"expected a step or more, got {steps}: without any the row would stay")
    center = p if center is None else center
    label, q, valid = label_of(center), p, valid_rows(center) & valid_rows(p)
    if near is not None:
        # A part of a step keeps what both of its ends keep.
        valid = valid & (near > 0) & near.isfinite()
        start, kept = project(p, center, label, epsilon, norm, margin, shrink)
        valid = valid & kept
        q = torch.where(valid.unsqueeze(-1), start, 1 / p.shape[1])
    for _ in range(steps):
        gradient, distance, usable = pull(q, goal, network, members, width, smooth)
        along = _unit_sized(gradient).to(p.dtype)
        stepped, kept = step(q, along, center, label, -alpha, epsilon, norm, margin, shrink)
        valid = valid & usable & kept
        if near is not None:
            stepped = _shortened(q, stepped, distance, near, label)
        # An invalid row goes on from a harmless one.
        q = torch.where(valid.unsqueeze(-1), stepped, 1 / p.shape[1])
    return torch.where(valid.unsqueeze(-1), q, safe_answer(center, label, p.dtype)), valid


def _unit_sized(g: Tensor) -> Tensor:
    """G over its largest entry, so that no dtype loses it; zero where g is zero."""
    size = g.abs().amax(1, keepdim=True)
    return torch.where(size > 0, g / size, 0.0)


def _shortened(q: Tensor, stepped: Tensor, distance: Tensor, near: Tensor, label: Tensor) -> Tensor:
    """The step, as much of it as the distance is of `near`. Both ends have the label: rounding can only make a tie."""
    share = (distance / near).clamp(0, 1).unsqueeze(1)
    wide = torch.promote_types(q.dtype, torch.float32)
    part = (q.to(wide) + share.to(wide) * (stepped.to(wide) - q.to(wide))).to(q.dtype)
    part = torch.where(share >= 1, stepped, part)
    return finish(part, label, torch.zeros_like(label, dtype=torch.float64), q.dtype)


def _joined(tiles: list[Tensor], rows: int, nothing: Tensor) -> Tensor:
    """The tiles without their padding."""
    return torch.cat(tiles)[:rows] if tiles else nothing
