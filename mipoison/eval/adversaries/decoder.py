"""Decode served vectors to images by transposed convolutions, as Yang et al. (CCS 2019) do."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mipoison.eval.adversaries.averaging import warn_of_divergence
from mipoison.eval.adversaries.base import (
    TrainedAdversary,
    features,
    stacked,
    training_device,
)
from mipoison.eval.adversaries.transposed import decoding_network
from mipoison.standards import Standardizer

# The published preprocessing: smallest logarithm, and what is added to all of them.
_LOG_FLOOR, _SHIFT = -1000.0, 50.0
# Rows that are decoded together once trained.
_ROWS = 500
# Weight of the past in a running average of the weights.
_DECAY: Final = 0.99


def truncated_logs(defended: Tensor, top: int) -> Tensor:
    """Keeps the ``top`` largest entries of each row as log p + 50, none below 0; 0 elsewhere.

    Logarithms are floored at -1000. A row with an entry below e^-50 is lifted as a whole, until
    its smallest entry kept is 0.

    Args:
        defended: ``[..., K]``.
        top: entries kept, the adversary's guess of what is worth reading; K keeps all.

    Example:
        >>> truncated_logs(torch.tensor([[0.7, 0.2, 0.1], [1.0, 0.0, 0.0]]), 2)
        tensor([[  49.6433,   48.3906,    0.0000],
                [1000.0000,    0.0000,    0.0000]])
    """
    kept, places = defended.topk(top, dim=-1)
    logs = kept.log().clamp_min(_LOG_FLOOR) + _SHIFT
    lifted = logs + torch.relu(-logs.amin(-1, keepdim=True))
    return torch.zeros_like(defended).scatter(-1, places, lifted)


class Decoder(TrainedAdversary):
    """Minimises the mean squared pixel error of a convolutional decoder.

    The vector becomes ``channels`` maps of 4×4, then each transposed convolution doubles the side
    and halves the channels, with batch normalisation and tanh between, until the image is covered;
    a sigmoid, and the middle of what is larger than the image. As published: 1024 channels for
    64×64, Adam 2e-4 with betas 0.5 and 0.999 and amsgrad, batch 128, 100 epochs, on "top-M". Three
    things differ, so that a few thousand rows on a CPU suffice: the features are standardised
    (without that it stays above the label-only error), the rate is higher and what decodes are
    running averages of the weights, and with rows held out training ends once their error no longer
    falls, and the weights of the best pass are kept.
    "top-M" falls behind the label wherever a defense serves zeros, so a defense must be judged by
    the other kinds too.

    E systems are attacked by E independent networks that start from the same weights and see the
    same batches: comparisons between defenses are paired.

    Args:
        image_shape: height and width.
        kind: "raw", "log" or "raw+log" features, or "top-M": `truncated_logs` of the M largest
            entries, as published.
        channels: maps of 4×4.
        epochs: passes over the auxiliary rows; the most of them, with rows held out.
        patience: passes without a smaller held-out error after which training ends.
        batch: rows a step.
        learning_rate: of Adam.
        log_floor: smallest entry before the logarithm, but for "top-M".
        seed: initial weights and order of the batches.
        name: how reports call it.
        on_epoch: called after every epoch.

    Attributes:
        curves: error on the training rows and on held-out rows after each epoch.
        passes: of each system, after how many passes its weights were taken.
    """

    passes: list[int]

    def __init__(
        self,
        *,
        image_shape: tuple[int, int],
        kind: str = "raw+log",
        channels: int = 64,
        epochs: int = 40,
        patience: int = 12,
        batch: int = 32,
        learning_rate: float = 2e-3,
        log_floor: float = 1e-6,
        seed: int = 0,
        name: str | None = None,
        on_epoch: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(
            name=f"decoder, {kind}" if name is None else name,
            kind=kind,
            epochs=epochs,
            batch=batch,
            learning_rate=learning_rate,
            log_floor=log_floor,
            seed=seed,
            on_epoch=on_epoch,
        )
        self.image_shape = image_shape
        self.channels = channels
        self.patience = patience

    def fit(
        self, defended: Tensor, inputs: Tensor, held_out: tuple[Tensor, Tensor] | None = None
    ) -> Decoder:
        """Trains on ``defended`` ``[(E,) n, K]`` and the inputs ``[n, D]`` behind them.

        Args:
            defended: served vectors of the adversary's queries.
            inputs: the queries.
            held_out: vectors and inputs that decide which pass was the best.

        Returns:
            The adversary itself.
        """
        return self._fit(defended, inputs, held_out, [self.epochs] * len(stacked(defended)))

    def again(self, defended: Tensor, inputs: Tensor, systems: Sequence[int]) -> Decoder:
        """See `MLP.again`."""
        return self._like()._fit(defended, inputs, None, [self.passes[one] for one in systems])

    def _fit(
        self,
        defended: Tensor,
        inputs: Tensor,
        held_out: tuple[Tensor, Tensor] | None,
        limits: Sequence[int],
    ) -> Decoder:
        device = training_device()
        inputs = inputs.to(device)
        read = self._read(stacked(defended.to(device)))
        self._standardizer = Standardizer.of(read)
        read = self._standardizer.apply(read)
        asked, originals = None, inputs
        if held_out is not None:
            asked = self._standardizer.apply(self._read(stacked(held_out[0].to(device))))
            originals = held_out[1].to(device)
        generator = torch.Generator().manual_seed(self.seed)
        trained = [
            _Training(self._initialise(read.shape[-1]).to(device), limit, self.learning_rate)
            for limit in limits
        ]
        made, active = 0, list(range(len(trained)))
        while active:
            order = torch.randperm(len(inputs), generator=generator).to(device)
            errors, watched = [], []
            for system in active:
                one = trained[system]
                errors.append(one.train_pass(read[system], inputs, order.split(self.batch)))
                error = None
                if asked is not None:
                    seen = _decoded(one.average.module, asked[system])
                    error = (seen - originals).square().mean()
                    watched.append(error)
                one.end_pass(error)
            self._epoch_ended(
                torch.stack(errors),
                torch.stack(watched) if watched else None,
                torch.tensor(active),
                len(trained),
            )
            made += 1
            active = [system for system in active if not trained[system].ended(self.patience)]
        self._networks = [one.taken() for one in trained]
        self.passes = [one.best_pass for one in trained]
        together = (
            torch.stack([value.flatten() for value in weights])
            for weights in zip(*(one.parameters() for one in self._networks), strict=True)
        )
        warn_of_divergence(self.passes, together, self.learning_rate)
        self._ended(made)
        return self

    @torch.no_grad()
    def reconstruct(self, defended: Tensor) -> Tensor:
        """Returns pixels in [0, 1], ``[(E,) m, D]``, for served vectors ``[(E,) m, K]``."""
        asked = stacked(defended).to(self._standardizer.center.device)
        read = self._standardizer.apply(self._read(asked))
        # One network meets any number of systems, as a member does.
        networks = self._networks * (len(read) // len(self._networks))
        pixels = torch.stack(
            [_decoded(network, vectors) for network, vectors in zip(networks, read, strict=True)]
        ).to(defended.device)
        return pixels if defended.dim() == 3 else pixels[0]

    def member(self, index: int) -> Decoder:
        """Returns the network that attacks one of the E systems, for any number of systems."""
        alone = self._like()
        alone._networks = [self._networks[index]]
        alone._standardizer = self._standardizer.member(index)
        alone.passes = self.passes[index : index + 1]
        return alone

    def _like(self) -> Decoder:
        """An untrained one of the same settings."""
        return Decoder(
            image_shape=self.image_shape,
            kind=self.kind,
            channels=self.channels,
            epochs=self.epochs,
            patience=self.patience,
            batch=self.batch,
            learning_rate=self.learning_rate,
            log_floor=self.log_floor,
            seed=self.seed,
            name=self.name,
        )

    def _read(self, vectors: Tensor) -> Tensor:
        if self.kind.startswith("top-"):
            return truncated_logs(vectors, min(int(self.kind[4:]), vectors.shape[-1]))
        return features(vectors, self.kind, log_floor=self.log_floor)

    def _initialise(self, classes: int) -> nn.Sequential:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return decoding_network(classes, self.image_shape, self.channels)


@dataclass
class _Training:
    """One network in training, the running average of its weights, and the best average so far.

    Attributes:
        network: it.
        limit: the most passes.
        rate: learning rate.
        best_pass: after which pass the best average was taken.
    """

    network: nn.Module
    limit: int
    rate: float
    best_pass: int = 0
    _made: int = 0
    _error: float = float("inf")
    _best: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self._best = copy.deepcopy(self.network.state_dict())
        self._optimizer = torch.optim.Adam(
            self.network.parameters(), lr=self.rate, betas=(0.5, 0.999), amsgrad=True
        )
        self.average = AveragedModel(
            self.network, multi_avg_fn=get_ema_multi_avg_fn(_DECAY), use_buffers=True
        )

    def train_pass(self, read: Tensor, inputs: Tensor, batches: Sequence[Tensor]) -> Tensor:
        """One pass; the mean squared error of its rows."""
        squared = inputs.new_zeros(())
        self.network.train()
        for rows in batches:
            errors = (self.network(read[rows]) - inputs[rows]).square()
            self._optimizer.zero_grad()
            errors.mean().backward()
            self._optimizer.step()
            self.average.update_parameters(self.network)
            squared += errors.detach().sum()
        self._made += 1
        return squared / inputs.numel()

    def end_pass(self, error: Tensor | None) -> None:
        """Keeps the average if its error on held-out rows is the smallest so far; without an error, always."""
        if error is None or float(error) < self._error:
            self._error = self._error if error is None else float(error)
            self.best_pass = self._made
            self._best = copy.deepcopy(self.average.module.state_dict())

    def ended(self, patience: int) -> bool:
        """Whether it has converged, or has no passes left."""
        return self._made >= self.limit or self._made - self.best_pass >= patience

    def taken(self) -> nn.Module:
        """The network with the weights of the best pass."""
        self.network.load_state_dict(self._best)
        return self.network


@torch.no_grad()
def _decoded(network: nn.Module, read: Tensor) -> Tensor:
    """Images ``[m, D]`` of standardised features ``[m, F]``."""
    network.eval()
    return torch.cat([network(rows) for rows in read.split(_ROWS)])
