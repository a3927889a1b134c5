"""Defend by training the target otherwise: variants to compare with what poisons its answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# ε of `whitened`, as published.
_RIDGE = 1e-5

Loss: TypeAlias = Callable[[nn.Sequential, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Retraining:
    """How a variant is trained.

    Attributes:
        rebuild: changes the network before training.
        loss: of the network, a batch of rows ``[n, D]`` and their labels ``[n]``.
    """

    rebuild: Callable[[nn.Sequential], nn.Sequential]
    loss: Loss


def cross_entropy(model: nn.Sequential, rows: Tensor, labels: Tensor) -> Tensor:
    """What a target is trained for without a defense."""
    return F.cross_entropy(model(rows), labels)


def negative_smoothing(amount: float = -0.05) -> Retraining:
    """Cross-entropy to (1 - a)·label + a/K with a < 0 (Struppek et al., ICLR 2024): less of the other classes shows.

    Args:
        amount: a.

    Raises:
        ValueError: if it is not in [-1, 0).
    """
    _require(-1 <= amount < 0, "a number in [-1, 0)", amount)

    def loss(model: nn.Sequential, rows: Tensor, labels: Tensor) -> Tensor:
        logs = F.log_softmax(model(rows), 1)
        chosen = logs.gather(1, labels.unsqueeze(1)).squeeze(1)
        return -((1 - amount) * chosen + amount * logs.mean(1)).mean()

    return replace(PLAIN, loss=loss)


class Bottleneck(nn.Module):
    """A Gaussian code of the features, its divergence from the standard normal kept for the loss.

    Args:
        inside: features.
        code: numbers of the code.
    """

    divergence: Tensor

    def __init__(self, inside: int, code: int) -> None:
        super().__init__()
        self.encode = nn.Linear(inside, 2 * code)

    def forward(self, features: Tensor) -> Tensor:
        """The code, drawn while training and its mean when served."""
        coded: Tensor = self.encode(features)
        mean, spread = coded.chunk(2, 1)
        variance = F.softplus(spread) + 1e-6
        self.divergence = (mean.square() + variance - variance.log() - 1).sum(1).mean() / 2
        if not self.training:
            return mean
        return mean + variance.sqrt() * torch.randn_like(mean)


def information_bottleneck(weight: float = 0.3, *, code: int = 64) -> Retraining:
    """Cross-entropy + β·KL of a Gaussian code before the last layer (MID: Wang et al., AAAI 2021).

    Args:
        weight: β.
        code: numbers of the code.

    Raises:
        ValueError: if the weight is negative or infinite.
    """
    _require(0 <= weight < math.inf, "a number >= 0", weight)

    def rebuild(model: nn.Sequential) -> nn.Sequential:
        head = model[-1]
        assert isinstance(head, nn.Linear)
        last = nn.Linear(code, head.out_features)
        return nn.Sequential(*list(model)[:-1], Bottleneck(head.in_features, code), last)

    def loss(model: nn.Sequential, rows: Tensor, labels: Tensor) -> Tensor:
        entropy = cross_entropy(model, rows, labels)
        bottleneck = model[-2]
        assert isinstance(bottleneck, Bottleneck)
        return entropy + weight * bottleneck.divergence

    return Retraining(rebuild, loss)


def bilateral_dependency(inputs: float = 0.2, *, labels: float = 0.5) -> Retraining:
    """Cross-entropy + λx·Σ d(x, z) - λy·Σ d(z, y) over the hidden layers z (BiDO: Peng et al., KDD 2022).

    d is the normalised Hilbert-Schmidt criterion, see `dependence`, as in the published code: the plain one is of the
    order of 1e-6 under kernels as wide as theirs, and such a term changes nothing.

    Args:
        inputs: λx, against what the layers keep of the inputs.
        labels: λy, for what they keep of the labels.

    Raises:
        ValueError: if a weight is negative or infinite.
    """
    for weight in (inputs, labels):
        _require(0 <= weight < math.inf, "a number >= 0", weight)

    def loss(model: nn.Sequential, rows: Tensor, true: Tensor) -> Tensor:
        hidden, state = [], rows
        for layer in model:
            state = layer(state)
            if isinstance(layer, nn.ReLU):
                hidden.append(state.flatten(1))
        total = F.cross_entropy(state, true)
        chosen = F.one_hot(true, state.shape[1]).to(rows)
        of_inputs, of_labels = whitened(_kernel(rows)), whitened(chosen @ chosen.T)
        for layer in hidden:
            own = whitened(_kernel(layer))
            total = total + inputs * dependence(own, of_inputs)
            total = total - labels * dependence(own, of_labels)
        return total

    return replace(PLAIN, loss=loss)


def _kernel(rows: Tensor) -> Tensor:
    """Gaussian kernel matrix ``[n, n]``, its width 5·√D as published."""
    squared = torch.cdist(rows, rows).square()
    return torch.exp(-squared / (2 * 25 * rows.shape[1]))


def dependence(first: Tensor, second: Tensor) -> Tensor:
    """How much two `whitened` kernels of the same rows have in common: tr(R S), 0 where independent.

    The squared norm of the normalised cross-covariance operator (Fukumizu et al., NeurIPS 2007), which does not depend
    on the kernels' scale as long as it is far above ε.
    """
    return (first * second).sum()


def whitened(kernel: Tensor) -> Tensor:
    """R = K̄(K̄ + εnI)⁻¹ of a kernel matrix ``[n, n]``, K̄ the centered one."""
    centered = kernel - kernel.mean(0, keepdim=True) - kernel.mean(1, keepdim=True) + kernel.mean()
    ridge = _RIDGE * len(kernel) * torch.eye(len(kernel), dtype=kernel.dtype, device=kernel.device)
    # Both factors are functions of one symmetric matrix: their order does not matter.
    solved: Tensor = torch.linalg.solve(centered + ridge, centered)
    return solved


PLAIN = Retraining(lambda model: model, cross_entropy)
# By what stands after the plus of a target's name; the first parameter is the strength. The usual one is the largest
# tried that cost half a point of accuracy at most (digits, seeds 100 to 102).
WAYS: Mapping[str, Callable[..., Retraining]] = {
    "nls": negative_smoothing,
    "vib": information_bottleneck,
    "bido": bilateral_dependency,
}


def retraining(way: str) -> Retraining:
    """Finds a way by its name, at its usual strength or at one of its own: "vib", "vib:0.1".

    A strength is α of nls, β of vib, λx of bido.

    Raises:
        ValueError: if there is no such way, or the strength is none.
    """
    name, colon, strength = way.partition(":")
    if name not in WAYS:
        raise ValueError(f"expected a way to retrain out of {sorted(WAYS)}, got {name!r}")
    return WAYS[name](float(strength)) if colon else WAYS[name]()


def is_way(way: str) -> bool:
    """Whether `retraining` takes it."""
    try:
        retraining(way)
    except ValueError:
        return False
    return True


def _require(holds: bool, expected: str, got: float) -> None:
    if not holds:
        raise ValueError(f"strength: expected {expected}, got {got}")
