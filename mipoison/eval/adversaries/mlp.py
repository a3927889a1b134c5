"""Invert served vectors with small networks: principal components of the inputs, after denoising if wanted."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from itertools import pairwise
from typing import Final

import torch
from torch import Tensor

from mipoison.adamw import AdamW
from mipoison.eval.adversaries.base import (
    Network,
    Standardizer,
    TrainedAdversary,
    features,
    stacked,
    training_device,
)
from mipoison.eval.metrics import pixel_loss, require_loss


class MLP(TrainedAdversary):
    """Minimises the mean squared error of min(80, D, n - 1) principal components.

    Two hidden ReLU layers on standardised features, AdamW with a one-cycle learning rate. Pixel
    error is the components' error plus a constant, so nothing is lost by predicting components.
    E systems are attacked by E independent networks trained in one loop, each starting from the
    same weights and seeing the same batches: comparisons between defenses are paired.

    Args:
        kind: "raw" or "raw+log" features.
        width: units of both hidden layers.
        epochs: passes over the auxiliary rows.
        batch: rows a step.
        learning_rate: peak of the one-cycle schedule.
        log_floor: smallest entry before the logarithm.
        loss: "mse", or "l1" or "mse+ssim" of the pixels, see `losses.pixel_loss`.
        image_shape: height and width, for "mse+ssim".
        seed: initial weights and order of the batches.
        name: how reports call it.
        on_epoch: called after every epoch.

    Attributes:
        curves: error on the training rows and on held-out rows after each epoch.
    """

    def __init__(
        self,
        *,
        kind: str = "raw",
        width: int = 256,
        epochs: int = 30,
        batch: int = 64,
        learning_rate: float = 2e-3,
        log_floor: float = 1e-6,
        loss: str = "mse",
        image_shape: tuple[int, int] | None = None,
        seed: int = 0,
        name: str | None = None,
        on_epoch: Callable[[], None] | None = None,
    ) -> None:
        require_loss(loss, image_shape)
        super().__init__(
            name=f"MLP-{width}, {kind}" if name is None else name,
            kind=kind,
            epochs=epochs,
            batch=batch,
            learning_rate=learning_rate,
            log_floor=log_floor,
            seed=seed,
            on_epoch=on_epoch,
        )
        self.width = width
        self.loss = loss
        self.image_shape = image_shape

    def fit(
        self, defended: Tensor, inputs: Tensor, held_out: tuple[Tensor, Tensor] | None = None
    ) -> MLP:
        """Trains on ``defended`` ``[(E,) n, K]`` and the inputs ``[n, D]`` behind them.

        Args:
            defended: served vectors of the adversary's queries.
            inputs: the queries.
            held_out: vectors and inputs that are only watched, for the learning curves.

        Returns:
            The adversary itself.
        """
        generator = torch.Generator().manual_seed(self.seed)
        device = training_device()
        defended, inputs = defended.to(device), inputs.to(device)
        read = features(stacked(defended), self.kind, log_floor=self.log_floor)
        self._standardizer = Standardizer.of(read)
        read = self._standardizer.apply(read)
        self._learn_components(inputs)
        coefficients = (inputs - self._mean) @ self._components.T
        self._parameters = self._initialise(read.shape[0], read.shape[2], generator)
        self._train(read, coefficients, inputs, held_out, generator)
        return self

    def reconstruct(self, defended: Tensor) -> Tensor:
        """Returns pixels in [0, 1], ``[(E,) m, D]``, for served vectors ``[(E,) m, K]``."""
        asked = defended.to(self._mean.device)
        raw = features(asked, self.kind, log_floor=self.log_floor)
        with torch.no_grad():
            predicted = self._forward(self._standardizer.apply(raw))
            pixels: Tensor = (predicted @ self._components + self._mean).clamp(0.0, 1.0)
        pixels = pixels.to(defended.device)
        return pixels if defended.dim() == 3 else pixels[0]

    def member(self, index: int) -> MLP:
        """Returns the network that attacks one of the E systems, as an adversary of its own."""
        alone = MLP(
            kind=self.kind,
            width=self.width,
            epochs=self.epochs,
            batch=self.batch,
            learning_rate=self.learning_rate,
            log_floor=self.log_floor,
            loss=self.loss,
            image_shape=self.image_shape,
            seed=self.seed,
            name=self.name,
        )
        alone._standardizer = self._standardizer.member(index)
        alone._mean, alone._components = self._mean, self._components
        alone._parameters = [parameter[index : index + 1] for parameter in self._parameters]
        return alone

    def _learn_components(self, inputs: Tensor) -> None:
        self._mean = inputs.mean(0)
        count = min(80, inputs.shape[1], len(inputs) - 1)
        directions = torch.linalg.svd(inputs - self._mean, full_matrices=False).Vh
        self._components = directions[:count]

    def _initialise(self, systems: int, size: int, generator: torch.Generator) -> list[Tensor]:
        sizes = (size, self.width, self.width, len(self._components))
        parameters = []
        for fan_in, fan_out in pairwise(sizes):
            for rows in (fan_in, 1):
                drawn = torch.rand(1, rows, fan_out, generator=generator) * 2.0 - 1.0
                start = (drawn / fan_in**0.5).to(self._mean.device)
                parameters.append(start.repeat(systems, 1, 1).requires_grad_())
        return parameters

    def _forward(self, scaled: Tensor) -> Tensor:
        hidden = scaled
        weights, biases = self._parameters[::2], self._parameters[1::2]
        for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
            hidden = torch.relu(hidden @ weight + bias)
        return hidden @ weights[-1] + biases[-1]

    def _train(
        self,
        scaled: Tensor,
        coefficients: Tensor,
        inputs: Tensor,
        held_out: tuple[Tensor, Tensor] | None,
        generator: torch.Generator,
    ) -> None:
        steps = self.epochs * -(-len(inputs) // self.batch)
        optimizer = AdamW(self._parameters, rate=self.learning_rate, steps=steps)
        lost = (inputs - self._mean).square().sum() - coefficients.square().sum()
        for _ in range(self.epochs):
            squared = scaled.new_zeros(scaled.shape[0])
            order = torch.randperm(len(inputs), generator=generator).to(scaled.device)
            for rows in order.split(self.batch):
                predicted = self._forward(scaled[:, rows])
                errors = (predicted - coefficients[rows]).square()
                # Of the squared error the components suffice: what they leave out is lost in any case.
                loss = errors.mean((1, 2))
                if self.loss != "mse":
                    pixels = predicted @ self._components + self._mean
                    loss = pixel_loss(self.loss, pixels, inputs[rows], self.image_shape)
                optimizer.step(loss.sum())
                squared += errors.detach().sum((1, 2))
            self._epoch_ended(((squared + lost) / inputs.numel()).tolist(), held_out)


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
