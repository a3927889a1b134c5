"""Code inputs for the adversaries, and say in the inputs' own terms how good a reconstruction is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from mipoison.audit.evidence import Evidence
from mipoison.eval.metrics import psnr, row_errors, ssim

# Inputs of more numbers are coded by so many principal components of the adversary's rows; an MLP predicts 80.
_COMPONENTS: Final = 160
_ROUNDS: Final = 4
# Victims whose similarity is computed, which takes long.
_COMPARED: Final = 200


@dataclass(frozen=True)
class Space:
    """The numbers that adversaries reconstruct: the inputs, or coefficients of their principal components.

    Attributes:
        center: mean of the adversary's inputs, [D].
        directions: orthonormal, [C, D]; None where there are few inputs: they are taken as they are.
        low: smallest input that the adversary has seen, [D]; reconstructions are cut there.
        high: largest one, [D].
    """

    center: Tensor
    directions: Tensor | None
    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, inputs: Tensor, *, seed: int) -> Space:
        """Learns it from the adversary's rows [n, D]; the same rows and seed give the same space."""
        center, low, high = inputs.mean(0), inputs.amin(0), inputs.amax(0)
        count = min(_COMPONENTS, len(inputs) - 1)
        if inputs.shape[1] <= count:
            return cls(center, None, low, high)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            found = torch.svd_lowrank(inputs - center, q=count, niter=_ROUNDS)[2]
        return cls(center, found.T.contiguous(), low, high)

    def encode(self, inputs: Tensor) -> Tensor:
        """[n, D] to what adversaries reconstruct."""
        if self.directions is None:
            return inputs
        return (inputs - self.center) @ self.directions.T

    def decode(self, coded: Tensor) -> Tensor:
        """The inputs that a reconstruction stands for, [n, D]."""
        found = coded if self.directions is None else coded @ self.directions + self.center
        return found.clamp(self.low, self.high)


def judge(evidence: Evidence, made: Tensor, true: Tensor, seen: Tensor) -> dict[str, Any]:
    """How good reconstructions are, in the terms of their kind.

    Args:
        evidence: what kind of inputs they are.
        made: reconstructions, [M, D].
        true: the inputs, [M, D].
        seen: the adversary's own inputs, [n, D].

    Returns:
        r2, the share of the variance that is explained; of images psnr (decibels) and ssim; of a table columns, by name
        the share that is told right of categories and the explained share of the variance of numbers; of embeddings
        cosine, the mean cosine between reconstruction and input, both from the mean of the adversary's inputs.
    """
    mean = seen.mean(0)
    error, most = (float(row_errors(guess, true).mean()) for guess in (made, mean))
    quality: dict[str, Any] = {"r2": _explained(error, most)}
    if evidence.kind == "images":
        assert evidence.image_shape is not None
        quality |= {"psnr": psnr(error), "ssim": _similarity(made, true, evidence.image_shape)}
    if evidence.kind == "table":
        quality["columns"] = _columns(evidence, made, true, mean)
    if evidence.kind == "embeddings":
        cosine = torch.cosine_similarity((made - mean).double(), (true - mean).double(), dim=1)
        quality["cosine"] = float(cosine.mean())
    return quality


def guessed(evidence: Evidence, true: Tensor, seen: Tensor) -> dict[str, float]:
    """What somebody says of a table's columns who knows the adversary's rows alone: the most frequent category.

    Args:
        evidence: a table.
        true: inputs, [M, D].
        seen: the adversary's own inputs, [n, D].
    """
    mean = seen.mean(0)
    return _columns(evidence, mean.expand_as(true), true, mean)


def _columns(evidence: Evidence, made: Tensor, true: Tensor, mean: Tensor) -> dict[str, float]:
    told = {}
    for column in evidence.columns:
        own = slice(column.first, column.first + column.width)
        if column.categories:
            right = made[:, own].argmax(1) == true[:, own].argmax(1)
            told[column.name] = float(right.double().mean())
        else:
            error, most = (
                float(row_errors(guess, true[:, own]).mean()) for guess in (made[:, own], mean[own])
            )
            told[column.name] = _explained(error, most)
    return told


def _explained(error: float, most: float) -> float:
    """The share of the variance; 0 where there is none."""
    return 1 - error / most if most > 0 else 0.0


def _similarity(made: Tensor, true: Tensor, shape: tuple[int, int, int]) -> float:
    """Structural similarity, mean over the channels; 0 of images too small for a window."""
    height, width, channels = shape
    if min(height, width) < 3:
        return 0.0

    def planes(pixels: Tensor) -> Tensor:
        images = pixels[:_COMPARED].reshape(-1, height, width, channels)
        return images.permute(0, 3, 1, 2).reshape(-1, height * width)

    return ssim(planes(made), planes(true), image_shape=(height, width))
