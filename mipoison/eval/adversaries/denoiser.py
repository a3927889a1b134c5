"""Undo a defense first, and invert what the undefended vectors may have been."""

from __future__ import annotations

import copy
import math
from typing import Final

import torch
from torch import Tensor

from mipoison.eval.adversaries.base import Network, stacked

# A row was spared where it moved no farther (l1) than rounding.
_SPARED: Final = 1e-5


def _spared(systems: Tensor, clean: Tensor) -> Tensor:
    """1 for each row that left as it came and 0 for the others, ``[E, n, 1]``."""
    return ((systems - clean).abs().sum(-1, keepdim=True) <= _SPARED).float()


class Denoiser:
    """Minimises the squared error of the undefended logarithms, and hands them to a network trained on such vectors.

    What an adversary can do who holds both answers to their own queries, say by a model of their own that is much
    like the target. They also learn to spot rows that left as they came, and believe those: where a few are spared,
    a network that learns from defended vectors alone meets too few of them to learn from.

    Args:
        inverter: trained on the undefended vectors of one system.
        clean: those vectors, ``[n, K]``.
        undo: learns the logarithms; like the next one it predicts numbers in [0, 1] for each row, as pixels are.
        spot: learns whether a row was spared.
        log_floor: smallest entry before a logarithm, < 1.
        keeps_labels: puts the served label ahead in what is recovered, for the systems that kept all labels.
        name: how reports call it.
    """

    def __init__(
        self,
        inverter: Network,
        clean: Tensor,
        undo: Network,
        spot: Network,
        *,
        log_floor: float = 1e-6,
        keeps_labels: bool = False,
        name: str = "denoiser",
    ) -> None:
        self.name = name
        self._inverter = inverter
        self._floor, self._lowest = log_floor, math.log(log_floor)
        self._clean = clean
        self._keeps_labels = keeps_labels
        self._undo, self._spot = undo, spot

    def fit(
        self, defended: Tensor, inputs: Tensor, held_out: tuple[Tensor, Tensor] | None = None
    ) -> Denoiser:
        """Learns from the defended vectors ``[(E,) n, K]`` of the rows that the undefended ones belong to.

        Args:
            defended: what was served.
            inputs: not looked at.
            held_out: defended vectors ``[(E,) m, K]`` and undefended ones ``[m, K]`` that decide how long to train.
        """
        systems = stacked(defended)
        kept = (systems.argmax(-1) == self._clean.argmax(-1)).all(-1)
        self._ahead = (kept & self._keeps_labels).view(-1, 1, 1)
        watched = watched_spots = None
        if held_out is not None:
            asked, clean = stacked(held_out[0]), held_out[1]
            watched = asked, self._goal(clean)
            watched_spots = list(zip(asked, _spared(asked, clean), strict=True))
        self._undo.fit(systems, self._goal(self._clean), watched)
        self._spots: list[Network | float] = []
        for system, rows in enumerate(_spared(systems, self._clean)):
            share = float(rows.mean())
            # Where all rows were spared, or none, there is nothing to learn.
            if 0 < share < 1:
                spot = copy.copy(self._spot)
                known = None if watched_spots is None else watched_spots[system]
                self._spots.append(spot.fit(systems[system], rows, known))
            else:
                self._spots.append(share)
        return self

    def _goal(self, clean: Tensor) -> Tensor:
        """Logarithms of undefended vectors, between 0 for an entry of 1 and 1 for the floor, less one."""
        return 1 - clean.clamp_min(self._floor).log() / self._lowest

    def denoise(self, defended: Tensor) -> Tensor:
        """What the undefended vectors may have been, ``[(E,) m, K]``."""
        logarithms = (1 - self._undo.reconstruct(defended)) * self._lowest
        vectors = logarithms.exp()
        # Raised to the largest entry where it is below that.
        label = stacked(defended).argmax(-1, keepdim=True)
        led = stacked(vectors).scatter(-1, label, stacked(vectors).amax(-1, keepdim=True))
        vectors = torch.where(self._ahead, led, stacked(vectors)).reshape(vectors.shape)
        answer: Tensor = vectors / vectors.sum(-1, keepdim=True)
        return answer

    def reconstruct(self, defended: Tensor) -> Tensor:
        """Returns pixels in [0, 1], ``[(E,) m, D]``, for served vectors ``[(E,) m, K]``."""
        systems = stacked(defended)
        denoised = self._invert(self.denoise(systems))
        believed = self._invert(systems)
        share = torch.stack(
            [
                own.new_full((len(own), 1), spot)
                if isinstance(spot, float)
                else spot.reconstruct(own)
                for spot, own in zip(self._spots, systems, strict=True)
            ]
        )
        pixels = denoised + share * (believed - denoised)
        return pixels if defended.dim() == 3 else pixels[0]

    def _invert(self, systems: Tensor) -> Tensor:
        """What the network for undefended vectors makes of those of all systems, ``[E, m, K]``."""
        count, rows = systems.shape[:2]
        return self._inverter.reconstruct(systems.flatten(0, 1)).reshape(count, rows, -1)
