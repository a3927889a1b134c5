"""A surrogate's training gradient on one pair, layer by layer, as factors of an outer product.

The gradient of ½‖G(q) − x‖² in a layer's weights is the outer product a ⊗ s of the layer's input and the error that is
backpropagated to it; in its biases it is s. Inner products then cost a few dot products a row, and depend on that row
only.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from mipoison.nn import backpropagate, evaluate
from mipoison.surrogate import Surrogate

# For each layer: its input [M, B, in] and the error at its output [M, B, out].
Factors: TypeAlias = list[tuple[Tensor, Tensor]]
# For each layer: the gradient in its weights [M, in, out] and in its biases [M, 1, out].
Gradient: TypeAlias = list[tuple[Tensor, Tensor]]

# A smaller squared length counts as zero: an exactly fitted pair has no gradient, hence no direction.
_TINY: Final = 1e-20


def factors(surrogate: Surrogate, q: Tensor, goal: Tensor, *, smooth: bool = False) -> Factors:
    """The factors of ∇_θ ½‖G_i(q) − goal‖² of all M members G_i, differentiable in q.

    Args:
        surrogate: the inversion models.
        q: vectors, float32 [B, K].
        goal: coefficients, [B, C].
        smooth: takes smooth derivatives of ReLU and the logarithm; see `mipoison.nn`.
    """
    state, inside = surrogate.state(), surrogate.inside(q, smooth=smooth)
    hidden = evaluate(state, inside.expand(surrogate.members, *inside.shape), smooth=smooth)
    answer, coefficients = hidden[-1], goal.shape[-1]
    # Units beyond the coefficients only fill the lanes: they have no error.
    error = F.pad(answer[..., :coefficients] - goal, (0, answer.shape[-1] - coefficients))
    errors = backpropagate(state, hidden, error, smooth=smooth)
    return list(zip(hidden[:-1], errors, strict=True))


def summed(pairs: Factors) -> Gradient:
    """The gradient, summed over the rows and scaled to length one for each member."""
    layers = [(a.transpose(1, 2) @ s, s.sum(1, keepdim=True)) for a, s in pairs]
    squares = [(w.square().sum((1, 2)) + b.square().sum((1, 2))) for w, b in layers]
    size = torch.stack(squares).sum(0).clamp_min(_TINY).sqrt()[:, None, None]
    return [(w / size, b / size) for w, b in layers]


def cosine(pairs: Factors, target: Gradient) -> Tensor:
    """Cosine of each row's gradient and a target of length one; [M, B]."""
    dots, squares = [], []
    for (a, s), (weight, bias) in zip(pairs, target, strict=True):
        dots.append((torch.baddbmm(bias, a, weight) * s).sum(-1))
        squares.append((a.square().sum(-1) + 1) * s.square().sum(-1))
    return torch.stack(dots).sum(0) / torch.stack(squares).sum(0).clamp_min(_TINY).sqrt()
