"""Invert served vectors with small networks that predict principal components of the inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final

import torch
from torch import Tensor

from mipoison.eval.adversaries.averaging import Averaging, warn_of_divergence
from mipoison.eval.adversaries.base import (
    TrainedAdversary,
    features,
    stacked,
    training_device,
)
from mipoison.eval.metrics import pixel_loss, require_loss
from mipoison.standards import Standardizer

# The range of pixels.
PIXELS: Final = (0.0, 1.0)


class Components:
    """The mean of inputs and min(80, D, n - 1) principal components; of one tensor they are computed once.

    A singular value decomposition of large images takes longer than some of the networks that learn to predict it.
    """

    def __init__(self) -> None:
        self._known: tuple[Tensor, int, Tensor, Tensor] | None = None

    def of(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the mean ``[D]`` and the components ``[C, D]`` of inputs ``[n, D]``, on the training device."""
        known = self._known
        if known is None or known[0] is not inputs or known[1] != inputs._version:
            rows = inputs.to(training_device())
            mean = rows.mean(0)
            count = min(80, rows.shape[1], len(rows) - 1)
            directions = torch.linalg.svd(rows - mean, full_matrices=False).Vh
            known = self._known = inputs, inputs._version, mean, directions[:count]
        return known[2], known[3]


class MLP(TrainedAdversary):
    """Minimises the mean squared error of min(80, D, n - 1) principal components.

    Two hidden ReLU layers on standardised features, AdamW at a constant rate, running averages of
    the weights. With rows held out, training ends once their error no longer falls, and the weights
    of the best pass are kept: see `Averaging`. Pixel error is the components' error plus a constant,
    so nothing is lost by predicting components.
    E systems are attacked by E independent networks trained in one loop, each starting from the
    same weights and seeing the same batches: comparisons between defenses are paired.

    Args:
        kind: "raw" or "raw+log" features.
        width: units of both hidden layers.
        epochs: passes over the auxiliary rows; the most of them, with rows held out.
        patience: passes without a smaller held-out error after which training ends.
        batch: rows a step.
        learning_rate: of AdamW.
        log_floor: smallest entry before the logarithm.
        loss: "mse", or "l1" or "mse+ssim" of the pixels, see `losses.pixel_loss`.
        image_shape: height and width, for "mse+ssim".
        span: what a reconstruction is cut to, lowest and highest input.
        seed: initial weights and order of the batches.
        name: how reports call it.
        on_epoch: called after every epoch.
        components: shared by networks that learn the same inputs; None: its own.

    Attributes:
        curves: error on the training rows and on held-out rows after each epoch.
        passes: of each system, after how many passes its weights were taken.
    """

    passes: list[int]

    def __init__(
        self,
        *,
        kind: str = "raw",
        width: int = 256,
        epochs: int = 30,
        patience: int = 12,
        batch: int = 64,
        learning_rate: float = 2e-3,
        log_floor: float = 1e-6,
        loss: str = "mse",
        image_shape: tuple[int, int] | None = None,
        span: tuple[float, float] = PIXELS,
        seed: int = 0,
        name: str | None = None,
        on_epoch: Callable[[], None] | None = None,
        components: Components | None = None,
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
        self.patience = patience
        self.loss = loss
        self.image_shape = image_shape
        self.span = span
        self._shared = Components() if components is None else components

    def fit(
        self, defended: Tensor, inputs: Tensor, held_out: tuple[Tensor, Tensor] | None = None
    ) -> MLP:
        """Trains on ``defended`` ``[(E,) n, K]`` and the inputs ``[n, D]`` behind them.

        Args:
            defended: served vectors of the adversary's queries.
            inputs: the queries.
            held_out: vectors and inputs that decide which pass was the best.

        Returns:
            The adversary itself.
        """
        return self._fit(defended, inputs, held_out, [self.epochs] * len(stacked(defended)))

    def again(self, defended: Tensor, inputs: Tensor, systems: Sequence[int]) -> MLP:
        """Trains anew on all rows, as many passes as were the best for each of some systems.

        Args:
            defended: served vectors of those systems, ``[S, n, K]``.
            inputs: the queries, ``[n, D]``.
            systems: their indices among those of the first training.

        Returns:
            Another adversary, of S systems.
        """
        return self._like()._fit(defended, inputs, None, [self.passes[one] for one in systems])

    def _fit(
        self,
        defended: Tensor,
        inputs: Tensor,
        held_out: tuple[Tensor, Tensor] | None,
        limits: Sequence[int],
    ) -> MLP:
        generator = torch.Generator().manual_seed(self.seed)
        device = training_device()
        self._mean, self._components = self._shared.of(inputs)
        defended, inputs = defended.to(device), inputs.to(device)
        read = features(stacked(defended), self.kind, log_floor=self.log_floor)
        self._standardizer = Standardizer.of(read)
        self._parameters = self._initialise(read.shape[0], read.shape[2], generator)
        held = None
        if held_out is not None:
            asked = stacked(held_out[0].to(device))
            held = self._scaled(asked), held_out[1].to(device)
        self._train(self._standardizer.apply(read), inputs, held, limits, generator)
        return self

    def reconstruct(self, defended: Tensor) -> Tensor:
        """Returns pixels in [0, 1], ``[(E,) m, D]``, for served vectors ``[(E,) m, K]``."""
        with torch.no_grad():
            scaled = self._scaled(defended.to(self._mean.device))
            pixels = self._pixels(self._parameters, scaled).to(defended.device)
        return pixels if defended.dim() == 3 else pixels[0]

    def member(self, index: int) -> MLP:
        """Returns the network that attacks one of the E systems, as an adversary of its own."""
        alone = self._like()
        alone._standardizer = self._standardizer.member(index)
        alone._mean, alone._components = self._mean, self._components
        alone._parameters = [parameter[index : index + 1] for parameter in self._parameters]
        alone.passes = self.passes[index : index + 1]
        return alone

    def _like(self) -> MLP:
        """An untrained one of the same settings."""
        return MLP(
            kind=self.kind,
            width=self.width,
            epochs=self.epochs,
            patience=self.patience,
            batch=self.batch,
            learning_rate=self.learning_rate,
            log_floor=self.log_floor,
            loss=self.loss,
            image_shape=self.image_shape,
            span=self.span,
            seed=self.seed,
            name=self.name,
            components=self._shared,
        )

    def _scaled(self, defended: Tensor) -> Tensor:
        """Standardised features of served vectors."""
        read = features(defended, self.kind, log_floor=self.log_floor)
        return self._standardizer.apply(read)

    def _initialise(self, systems: int, size: int, generator: torch.Generator) -> list[Tensor]:
        sizes = (size, self.width, self.width, len(self._components))
        parameters = []
        for fan_in, fan_out in pairwise(sizes):
            for rows in (fan_in, 1):
                drawn = torch.rand(1, rows, fan_out, generator=generator) * 2.0 - 1.0
                start = (drawn / fan_in**0.5).to(self._mean.device)
                parameters.append(start.repeat(systems, 1, 1).requires_grad_())
        return parameters

    def _pixels(self, parameters: Sequence[Tensor], scaled: Tensor) -> Tensor:
        """What networks of these parameters make of standardised features."""
        pixels: Tensor = _forward(parameters, scaled) @ self._components + self._mean
        return pixels.clamp(*self.span)

    def _train(
        self,
        scaled: Tensor,
        inputs: Tensor,
        held: tuple[Tensor, Tensor] | None,
        limits: Sequence[int],
        generator: torch.Generator,
    ) -> None:
        coefficients = (inputs - self._mean) @ self._components.T
        total = (inputs - self._mean).square().sum()
        lost = total - coefficients.square().sum()
        systems = len(scaled)
        training = Averaging(
            self._parameters,
            rate=self.learning_rate,
            limits=limits,
            patience=self.patience,
            variance=float(total) / inputs.numel(),
        )
        made = 0
        while len(training.active):
            squared = scaled.new_zeros(len(scaled))
            order = torch.randperm(len(inputs), generator=generator).to(scaled.device)
            for rows in order.split(self.batch):
                predicted = _forward(training.parameters, scaled[:, rows])
                errors = (predicted - coefficients[rows]).square()
                # Of the squared error the components suffice: what they leave out is lost in any case.
                loss = errors.mean((1, 2))
                if self.loss != "mse":
                    pixels = predicted @ self._components + self._mean
                    loss = pixel_loss(self.loss, pixels, inputs[rows], self.image_shape)
                training.step(loss.sum())
                squared += errors.detach().sum((1, 2))
            watched = None
            if held is not None:
                seen = self._pixels(training.averages, held[0])
                watched = (seen - held[1]).square().mean((1, 2))
            self._epoch_ended((squared + lost) / inputs.numel(), watched, training.active, systems)
            left = training.end_pass(watched)
            made += 1
            if len(left) < len(scaled):
                scaled = scaled[left]
                held = None if held is None else (held[0][left], held[1])
        self._parameters, self.passes = training.best, training.passes
        warn_of_divergence(self.passes, self._parameters, self.learning_rate)
        self._ended(made)


def _forward(parameters: Sequence[Tensor], scaled: Tensor) -> Tensor:
    """Components ``[E, m, C]`` of standardised features ``[E, m, F]``."""
    hidden = scaled
    weights, biases = parameters[::2], parameters[1::2]
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        hidden = torch.relu(hidden @ weight + bias)
    return hidden @ weights[-1] + biases[-1]
