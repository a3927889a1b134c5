"""Compare defenses at equal realised distortion: find the strength whose mean l1 is the one asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

from mipoison.defenses import (
    Contract,
    GaussianNoise,
    HighConfidence,
    LaplaceNoise,
    ModelGuardS,
    ModelGuardW,
    OneParameter,
    Purifier,
    ReverseSigmoid,
    Swap,
    Temperature,
    TopK,
)
from mipoison.defenses.baselines.modelguard import codewords_within, covers_of

Served: TypeAlias = Callable[[Tensor], Tensor]
OfStrength: TypeAlias = Callable[[float], Served]


def of_mean_l1(
    make: OfStrength,
    outputs: Tensor,
    mean_l1: float,
    *,
    low: float = 1e-5,
    high: float = 100.0,
    rounds: int = 14,
) -> Served:
    """Finds the strength whose mean l1 on the defender's vectors is the one asked for.

    A nominal strength says little about the distortion that arrives once the label is kept and the
    row is back on the simplex; defenses are compared at equal realised distortion.

    Args:
        make: strength to defense; more strength, more distortion.
        outputs: the defender's vectors, ``[n, K]``.
        mean_l1: mean l1 distance to realise; if no strength up to high reaches it, high is taken.
        low: least strength tried, > 0.
        high: most strength tried.
        rounds: halvings of the interval of strengths, on a logarithmic axis.

    Returns:
        The defense of that strength; with strengths that come in steps, the first that reaches it.

    Example:
        >>> import torch
        >>> shift = lambda strength: (lambda p: p + strength)
        >>> of_mean_l1(shift, torch.zeros(1, 2), 0.2, rounds=40)(torch.zeros(1))
        tensor([0.1000])
    """
    for _ in range(rounds):
        middle = (low * high) ** 0.5
        moved = float((make(middle)(outputs) - outputs).abs().sum(-1).mean())
        low, high = (middle, high) if moved < mean_l1 else (low, middle)
    return make(high)


@dataclass(frozen=True)
class Sweep:
    """One parameter of a defense as a strength that grows with the distortion.

    Attributes:
        prepare: (the defender's vectors, key, seed) to a map from strength to defense.
        low: least strength.
        high: most strength.
    """

    prepare: Callable[[Tensor, int, int], OfStrength]
    low: float = 1e-5
    high: float = 100.0

    def realise(self, outputs: Tensor, mean_l1: float, *, key: int, seed: int) -> Served:
        """The defense whose mean l1 on the defender's vectors is the one asked for."""
        make = self.prepare(outputs, key, seed)
        return of_mean_l1(make, outputs, mean_l1, low=self.low, high=self.high)


def _purifier(outputs: Tensor, key: int, seed: int) -> OfStrength:
    """Trained once: a strength only caps how far rows go toward what it redraws."""
    reformer = Purifier.fit(outputs, seed=seed, key=key).reformer
    return lambda epsilon: Purifier(reformer, epsilon=epsilon, key=key)


def _swap(outputs: Tensor, key: int, seed: int) -> OfStrength:
    bank = Swap.fit(outputs).bank
    return lambda epsilon: Swap(bank, epsilon=epsilon, key=key)


def _contract(outputs: Tensor, key: int, seed: int) -> OfStrength:
    centers = Contract.fit(outputs).centers
    return lambda epsilon: Contract(centers, epsilon=epsilon)


def _modelguard_s(outputs: Tensor, key: int, seed: int) -> OfStrength:
    """Rows are sorted by label once, and clustered for each epsilon."""
    covers, margin = covers_of(outputs), 1e-3
    return lambda epsilon: ModelGuardS(
        codewords_within(covers, epsilon, margin), epsilon=epsilon, margin=margin
    )


def _top_k(outputs: Tensor, key: int, seed: int) -> OfStrength:
    """Keeps one entry in `strength`."""
    k = outputs.shape[1]
    return lambda strength: TopK(max(1, round(k / strength)))


SWEEPS: Mapping[str, Sweep] = {
    "laplace": Sweep(lambda outputs, key, seed: lambda s: LaplaceNoise(scale=s, key=key)),
    "gaussian": Sweep(lambda outputs, key, seed: lambda s: GaussianNoise(scale=s, key=key)),
    "top_k": Sweep(_top_k, 1.0, 1e4),
    "flatten": Sweep(lambda outputs, key, seed: lambda s: Temperature(temperature=1 + s)),
    "sharpen": Sweep(lambda outputs, key, seed: lambda s: Temperature(temperature=1 / (1 + s))),
    "reverse_sigmoid": Sweep(lambda outputs, key, seed: lambda s: ReverseSigmoid(beta=s)),
    "high_confidence": Sweep(
        lambda outputs, key, seed: lambda s: HighConfidence(cutoff=s), 1e-6, 1.0
    ),
    "purifier": Sweep(_purifier, 1e-4, 2.0),
    "one_parameter": Sweep(
        lambda outputs, key, seed: lambda s: OneParameter(privacy_budget=1 / s, key=key), 1e-5, 1e5
    ),
    "swap": Sweep(_swap, 1e-4, 2.0),
    "contract": Sweep(_contract, 1e-4, 2.0),
    "modelguard_w": Sweep(lambda outputs, key, seed: lambda s: ModelGuardW(epsilon=s), 1e-4, 2.0),
    "modelguard_s": Sweep(_modelguard_s, 1e-3, 2.0),
}
