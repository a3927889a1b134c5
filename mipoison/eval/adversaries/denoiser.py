"""Undo a defense first, and invert what the undefended vectors may have been."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from mipoison.eval.adversaries.base import Network, stacked

# A row was spared where it moved no farther (l1) than rounding.
_SPARED: Final = 1e-5
# Where lines leave less of the logarithms (nats, root mean square), there is nothing more to learn.
_NOTHING: Final = 1e-5
# What the network of a denoiser predicts is not bounded, as pixels are.
UNBOUNDED: Final = (-math.inf, math.inf)


def _spared(systems: Tensor, clean: Tensor) -> Tensor:
    """1 for each row that left as it came and 0 for the others, ``[E, n, 1]``."""
    return ((systems - clean).abs().sum(-1, keepdim=True) <= _SPARED).float()


@dataclass(frozen=True)
class _Lines:
    """The least-squares line of each undefended logarithm on the served one, for E systems.

    An entry that leaves as it came has the line of slope 1. One that tells nothing, such as one that is always cut to
    zero, has slope 0 and the mean.

    Attributes:
        slope: ``[E, 1, K]``.
        offset: ``[E, 1, K]``.
    """

    slope: Tensor
    offset: Tensor

    @classmethod
    def of(cls, served: Tensor, goal: Tensor) -> _Lines:
        """Fits logarithms ``[n, K]`` to served ones ``[E, n, K]``."""
        center, middle = served.mean(1, keepdim=True), goal.mean(0)
        apart = served - center
        variance = apart.square().mean(1, keepdim=True)
        shared = (apart * (goal - middle)).mean(1, keepdim=True)
        slope = torch.where(variance > _NOTHING**2, shared / variance, 0.0)
        return cls(slope, middle - slope * center)

    def at(self, served: Tensor) -> Tensor:
        """What they say of served logarithms ``[E, m, K]``."""
        return self.offset + self.slope * served


class Denoiser:
    """Minimises the squared error of the undefended logarithms, and hands them to a network trained on such vectors.

    Each undefended logarithm is a line of the served one, and a network learns what the lines leave, scaled to a
    variance of one: it need not learn what a served vector says by itself.

    What an adversary can do who holds both answers to their own queries, say by a model of their own that is much
    like the target. They also learn to spot rows that left as they came, and believe those: where a few are spared,
    a network that learns from defended vectors alone meets too few of them to learn from.

    Args:
        inverter: trained on the undefended vectors of one system.
        clean: those vectors, ``[n, K]``.
        undo: learns what lines leave of the logarithms, a network for each system; `UNBOUNDED` in what it predicts.
        spot: learns whether a row was spared, a number in [0, 1].
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
        goal, served = self._logarithms(self._clean), self._logarithms(systems)
        self._lines = _Lines.of(served, goal)
        left = goal - self._lines.at(served)
        asked = left_held = spared_held = None
        if held_out is not None:
            asked, clean = stacked(held_out[0]), held_out[1]
            left_held = self._logarithms(clean) - self._lines.at(self._logarithms(asked))
            spared_held = _spared(asked, clean)

        def watched(
            goals: Tensor | None, system: int, scale: float
        ) -> tuple[Tensor, Tensor] | None:
            if asked is None or goals is None:
                return None
            return asked[system], goals[system] / scale

        self._undone: list[tuple[Network, float] | None] = []
        for system, rest in enumerate(left):
            scale = float(rest.square().mean().sqrt())
            if scale <= _NOTHING:
                self._undone.append(None)
                continue
            undo = copy.copy(self._undo)
            known = watched(left_held, system, scale)
            self._undone.append((undo.fit(systems[system], rest / scale, known), scale))
        self._spots: list[Network | float] = []
        for system, rows in enumerate(_spared(systems, self._clean)):
            share = float(rows.mean())
            # Where all rows were spared, or none, there is nothing to learn.
            if 0 < share < 1:
                spot = copy.copy(self._spot)
                known = watched(spared_held, system, 1.0)
                self._spots.append(spot.fit(systems[system], rows, known))
            else:
                self._spots.append(share)
        return self

    def _logarithms(self, vectors: Tensor) -> Tensor:
        return vectors.clamp_min(self._floor).log()

    def denoise(self, defended: Tensor) -> Tensor:
        """What the undefended vectors may have been, ``[(E,) m, K]``."""
        systems = stacked(defended)
        lines = self._lines.at(self._logarithms(systems))
        learnt = torch.stack(
            [
                line if one is None else line + one[1] * one[0].reconstruct(own)
                for line, one, own in zip(lines, self._undone, systems, strict=True)
            ]
        )
        vectors = learnt.clamp(self._lowest, 0.0).exp()
        # Raised to the largest entry where it is below that.
        label = systems.argmax(-1, keepdim=True)
        led = vectors.scatter(-1, label, vectors.amax(-1, keepdim=True))
        vectors = torch.where(self._ahead, led, vectors).reshape(defended.shape)
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
