"""Train E networks side by side until each has converged: running averages of the weights, the best ones kept."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Final

import torch
from torch import Tensor

from mipoison.adamw import AdamW

# Weight of the past in a running average, once there is enough of it.
_DECAY: Final = 0.99
# An error counts as smaller if it is so by this share, and by this share of the targets' variance.
_SMALLER: Final = 1e-4
_LEAST: Final = 1e-5


def warn_of_divergence(passes: Sequence[int], weights: Iterable[Tensor], rate: float) -> None:
    """Warns of networks that have diverged: without a pass of finite error, or with weights that are not finite.

    Args:
        passes: of each network, after how many passes its weights were taken; 0: after none, they are the initial ones.
        weights: ``[E, ...]`` each.
        rate: their learning rate.
    """
    lost = torch.tensor([made == 0 for made in passes])
    for one in weights:
        lost |= ~one.flatten(1).isfinite().all(1).cpu()
    if lost.any():
        warnings.warn(
            f"training: expected finite errors, got none from {int(lost.sum())} of {len(passes)} networks, which "
            f"measure nothing; take a learning_rate below {rate:g}",
            RuntimeWarning,
            stacklevel=2,
        )


class Averaging:
    """AdamW at a constant rate on E networks; what is judged and kept are running averages of the weights.

    A schedule fits one length of training, and another length gives another network. An average at a constant rate is
    as good as the end of a schedule of the right length, and tells at every pass whether more passes would help.

    Args:
        parameters: weights and biases, ``[E, ...]`` each, requiring gradients.
        rate: learning rate.
        limits: the most passes of each network.
        patience: passes without a smaller error after which a network has converged; None: all passes are made.
        variance: of what the networks learn, in the unit of the squared errors that are told.

    Attributes:
        parameters: of the networks that are still trained, ``[A, ...]`` each.
        averages: theirs.
        active: their indices among the E, ``[A]``.
        best: the averages of each network's best pass, or of its last one where no errors are told, ``[E, ...]`` each.
        passes: after how many passes that was.
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        *,
        rate: float,
        limits: Sequence[int],
        patience: int | None,
        variance: float = 1.0,
    ) -> None:
        self.parameters = list(parameters)
        self.averages = [value.detach().clone() for value in parameters]
        self.best = [value.clone() for value in self.averages]
        device = self.best[0].device
        self.active = torch.arange(len(limits), device=device)
        self.passes = [0] * len(limits)
        self._limits = torch.tensor(limits, device=device)
        self._patience = patience
        self._least = _LEAST * variance
        self._errors = torch.full((len(limits),), torch.inf, device=device)
        self._since = torch.zeros_like(self._limits)
        self._optimizer = AdamW(self.parameters, rate=rate)
        self._steps = 0
        self._made = 0

    def step(self, loss: Tensor) -> None:
        """One step of every active network down the gradient of the sum of their losses."""
        self._optimizer.step(loss)
        self._steps += 1
        # The first averages reach back over few steps, or the start would weigh on them for long.
        new = 1 - min(_DECAY, (1 + self._steps) / (10 + self._steps))
        with torch.no_grad():
            torch._foreach_lerp_(self.averages, [value.detach() for value in self.parameters], new)

    def end_pass(self, errors: Tensor | None) -> Tensor:
        """Keeps the averages that are the best so far, and drops networks that have converged or reached their limit.

        Args:
            errors: of the active networks' averages on rows that they are not trained on, ``[A]``; None: no rows.

        Returns:
            which of the active networks go on, indices into ``[A]``.
        """
        self._made += 1
        better = torch.ones_like(self.active, dtype=torch.bool)
        if errors is not None:
            before = self._errors[self.active]
            better = errors < before * (1 - _SMALLER) - self._least
            self._errors[self.active] = torch.where(better, errors.to(before), before)
        chosen = self.active[better]
        for best, average in zip(self.best, self.averages, strict=True):
            best[chosen] = average[better]
        for network in chosen.tolist():
            self.passes[network] = self._made
        self._since[chosen] = self._made
        done = self._made >= self._limits[self.active]
        if errors is not None and self._patience is not None:
            done = done | (self._made - self._since[self.active] >= self._patience)
        left = (~done).nonzero().flatten()
        if len(left) < len(self.active):
            self.active = self.active[left]
            self.averages = [value[left] for value in self.averages]
            self.parameters = [value.detach()[left].requires_grad_() for value in self.parameters]
            self._optimizer.keep(self.parameters, left)
        return left
