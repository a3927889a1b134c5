"""Minimize a loss by AdamW, with a one-cycle learning rate if wanted.

Steps and rates are those of `torch.optim.AdamW` and `torch.optim.lr_scheduler.OneCycleLR`, bit for bit. The class in
torch imports the compiler when it is constructed, which took longer (2.4 s) than a small fit (1.5 s); the function that
it calls does not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

import torch
from torch import Tensor
from torch.optim.adamw import adamw

_BETAS: Final = (0.9, 0.999)
_EPS: Final = 1e-8
_WEIGHT_DECAY: Final = 1e-2

# One cycle: the share of the steps in which the rate rises, by how much it starts below its peak and ends below its
# start, and β₁ where the rate is lowest and where it is highest.
_RISE: Final = 0.3
_BELOW_PEAK: Final = 25.0
_BELOW_START: Final = 1e4
_MOMENTA: Final = (0.95, 0.85)


class AdamW:
    """The parameters that are trained, and their running averages.

    Args:
        parameters: updated in place.
        rate: learning rate, or its peak if it runs through a cycle.
        steps: how many steps the cycle has; no cycle if it is left out.
        fused: one call updates all parameters; it rounds differently.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        *,
        rate: float,
        steps: int | None = None,
        fused: bool = True,
    ) -> None:
        self._parameters = list(parameters)
        self._means = [torch.zeros_like(p) for p in self._parameters]
        self._squares = [torch.zeros_like(p) for p in self._parameters]
        self._counts = [
            torch.zeros((), dtype=torch.float32, device=p.device if fused else "cpu")
            for p in self._parameters
        ]
        self._rate = rate
        self._steps = steps
        self._fused = fused
        self._taken = 0

    def step(self, loss: Tensor) -> None:
        """One step down the gradient of the loss, a scalar that all parameters have a part in."""
        self.apply(list(torch.autograd.grad(loss, self._parameters)))

    def apply(self, gradients: list[Tensor]) -> None:
        """One step against these gradients, one for each parameter."""
        rate, momentum = self._rate, _BETAS[0]
        if self._steps is not None:
            rate, momentum = one_cycle(self._taken, self._steps, self._rate)
        with torch.no_grad():
            adamw(
                self._parameters,
                gradients,
                self._means,
                self._squares,
                [],
                self._counts,
                fused=self._fused,
                foreach=False,
                amsgrad=False,
                beta1=momentum,
                beta2=_BETAS[1],
                lr=rate,
                weight_decay=_WEIGHT_DECAY,
                eps=_EPS,
                maximize=False,
            )
        self._taken += 1

    def keep(self, parameters: Iterable[Tensor], members: Tensor) -> None:
        """Goes on with some of several networks, whose parameters are stacked in the first dimension.

        Args:
            parameters: theirs alone, in the same order.
            members: their indices in the old first dimension.
        """
        self._parameters = list(parameters)
        self._means = [mean[members] for mean in self._means]
        self._squares = [square[members] for square in self._squares]


def one_cycle(step: int, steps: int, peak: float) -> tuple[float, float]:
    """Learning rate and momentum β₁ of a step: the rate rises to its peak and falls, the momentum falls and rises.

    Args:
        step: from 0 to steps - 1.
        steps: of the whole cycle.
        peak: highest learning rate.
    """
    start = peak / _BELOW_PEAK
    top, last = _RISE * steps - 1, steps - 1
    if step <= top:
        share, rates, momenta = step / top, (start, peak), _MOMENTA
    else:
        share, rates, momenta = (
            (step - top) / (last - top),
            (peak, start / _BELOW_START),
            _MOMENTA[::-1],
        )
    return _between(*rates, share), _between(*momenta, share)


def _between(start: float, end: float, share: float) -> float:
    """From start to end along half a cosine."""
    return end + (start - end) / 2 * (math.cos(math.pi * share) + 1)
