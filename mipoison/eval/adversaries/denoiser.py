"""Undo the defense first: learn the undefended vector from the defended one, then invert that."""

from __future__ import annotations

import copy
import math
from typing import Final

import torch
from torch import Tensor

from mipoison.eval.adversaries.base import Network
from mipoison.eval.adversaries.mlp import MLP
from mipoison.eval.adversaries.watched import stacked

# A row was spared where it moved no farther (l1) than rounding.
_SPARED: Final = 1e-5


class Denoiser:
    """Minimises the squared error of the undefended logarithms, and hands them to a network trained on such vectors.

    What an adversary can do who holds both answers to their own queries, say by a model of their own that is much
    like the target. They also learn to spot rows that left as they came, and believe those: where a few are spared,
    a network that learns from defended vectors alone meets too few of them to learn from.

    Args:
        inverter: trained on the undefended vectors of one system.
        clean: those vectors, ``[n, K]``.
        width: units of both hidden layers of the networks that undo the defense and spot the spared rows.
        epochs: their passes.
        batch: their rows a step.
        learning_rate: peak of their one-cycle schedule.
        log_floor: smallest entry before a logarithm, < 1.
        seed: initial weights and order of the batches.
        name: how reports call it.
    """

    def __init__(
        self,
        inverter: Network,
        clean: Tensor,
        *,
        width: int = 192,
        epochs: int = 30,
        batch: int = 64,
        learning_rate: float = 2e-3,
        log_floor: float = 1e-6,
        seed: int = 0,
        name: str = "denoiser",
    ) -> None:
        self.name = name
        self._inverter = inverter
        self._lowest = math.log(log_floor)
        self._goal = 1 - clean.clamp_min(log_floor).log() / self._lowest
        self._clean = clean
        # An MLP predicts numbers in [0, 1] for each row: pixels, or as here logarithms between floor and 1, and
        # whether the row was spared.
        self._undo, self._spot = (
            MLP(
                name=name,
                kind="raw+log",
                width=width,
                epochs=epochs,
                batch=batch,
                learning_rate=learning_rate,
                log_floor=log_floor,
                seed=own,
            )
            for own in (seed, seed + 1)
        )

    def fit(self, defended: Tensor, inputs: Tensor) -> Denoiser:
        """Learns from the defended vectors ``[(E,) n, K]`` of the rows that the undefended ones belong to."""
        self._undo.fit(defended, self._goal)
        systems = stacked(defended)
        spared = ((systems - self._clean).abs().sum(-1) <= _SPARED).float()
        self._spots = [
            copy.copy(self._spot).fit(own, rows.unsqueeze(1)) if rows.any() else None
            for own, rows in zip(systems, spared, strict=True)
        ]
        return self

    def denoise(self, defended: Tensor) -> Tensor:
        """What the undefended vectors may have been, ``[(E,) m, K]``."""
        logarithms = (1 - self._undo.reconstruct(defended)) * self._lowest
        vectors = logarithms.exp()
        answer: Tensor = vectors / vectors.sum(-1, keepdim=True)
        return answer

    def reconstruct(self, defended: Tensor) -> Tensor:
        """Returns pixels in [0, 1], ``[(E,) m, D]``, for served vectors ``[(E,) m, K]``."""
        systems = stacked(defended)
        denoised = self._invert(self.denoise(systems))
        believed = self._invert(systems)
        share = torch.stack(
            [
                own.new_zeros(len(own), 1) if spot is None else spot.reconstruct(own)
                for spot, own in zip(self._spots, systems, strict=True)
            ]
        )
        pixels = denoised + share * (believed - denoised)
        return pixels if defended.dim() == 3 else pixels[0]

    def _invert(self, systems: Tensor) -> Tensor:
        """What the network for undefended vectors makes of those of all systems, ``[E, m, K]``."""
        count, rows = systems.shape[:2]
        return self._inverter.reconstruct(systems.flatten(0, 1)).reshape(count, rows, -1)
