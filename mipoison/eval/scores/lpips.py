"""Measure perceptual distance by LPIPS (Zhang et al., CVPR 2018) with AlexNet, where its weights are given."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

# Channels of the five layers, their kernels, strides and padding; the first two are pooled.
_CHANNELS: Final = (3, 64, 192, 384, 256, 256)
_KERNELS: Final = (11, 5, 3, 3, 3)
_STRIDES: Final = (4, 1, 1, 1, 1)
_PADDING: Final = (2, 2, 1, 1, 1)
_POOLED: Final = (1, 2)
# Of the published code, for images in [-1, 1].
_SHIFT: Final = (-0.030, -0.088, -0.188)
_SCALE: Final = (0.458, 0.448, 0.450)
# Smaller images are enlarged: what was judged by people, to find the weights, had this side.
_LEAST_SIDE: Final = 64
_TOGETHER: Final = 128


@dataclass(frozen=True)
class Lpips:
    """Mean over layers' places of Σ w (a - b)², a and b the two images' features of unit length, summed over layers.

    Attributes:
        filters: weight ``[out, in, k, k]`` and bias ``[out]`` of each of AlexNet's five convolutions.
        weights: w of each layer, ``[out]``.
    """

    filters: tuple[tuple[Tensor, Tensor], ...]
    weights: tuple[Tensor, ...]

    @classmethod
    def load(cls, path: Path) -> Lpips:
        """Reads the weights from a file that ``studies/lpips_weights.py`` wrote.

        Raises:
            FileNotFoundError: if there is none.
            ValueError: if it is another one.
        """
        how = "; docs/guides/evaluate-your-classifier.md says how it is made"
        if not path.is_file():
            raise FileNotFoundError(f"lpips: expected a file {path}, found none{how}")
        try:
            arrays = load_file(path)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"lpips: {path}: expected safetensors, got {error}{how}") from error
        wanted = shapes()
        got = {name: tuple(array.shape) for name, array in arrays.items()}
        if got != wanted:
            wrong = sorted(name for name in {*got, *wanted} if got.get(name) != wanted.get(name))
            raise ValueError(
                f"lpips: {path}: expected AlexNet's weights and those of its layers, got others: {', '.join(wrong[:3])}"
                f"{how}"
            )
        layers = range(len(_KERNELS))
        floats = {name: array.float() for name, array in arrays.items()}
        return cls(
            tuple((floats[f"conv.{i}.weight"], floats[f"conv.{i}.bias"]) for i in layers),
            tuple(floats[f"layer.{i}.weight"] for i in layers),
        )

    @torch.no_grad()
    def mean(self, made: Tensor, true: Tensor, *, image_shape: tuple[int, int]) -> float:
        """The mean distance of reconstructions from their originals; 0: alike, about .7: nothing in common.

        Args:
            made: ``[N, D]``, grey pixels in [0, 1].
            true: ``[N, D]``.
            image_shape: height and width.
        """
        total = 0.0
        for one, other in zip(made.split(_TOGETHER), true.split(_TOGETHER), strict=True):
            pairs = zip(
                self._features(one, image_shape),
                self._features(other, image_shape),
                self.weights,
                strict=True,
            )
            for a, b, weight in pairs:
                differ = (a - b).square() * weight[:, None, None]
                total += float(differ.sum(1).mean((1, 2)).double().sum())
        return total / len(made)

    def _features(self, images: Tensor, image_shape: tuple[int, int]) -> list[Tensor]:
        """Each layer's features of unit length, ``[n, out, H', W']``."""
        x = images.clamp(0.0, 1.0).reshape(-1, 1, *image_shape)
        factor = _LEAST_SIDE / min(image_shape)
        if factor > 1:
            size = [round(side * factor) for side in image_shape]
            x = F.interpolate(x, size=size, mode="bilinear", align_corners=False)
        shift, scale = (torch.tensor(each)[:, None, None] for each in (_SHIFT, _SCALE))
        x = (2 * x - 1 - shift) / scale
        found = []
        for i, (weight, bias) in enumerate(self.filters):
            if i in _POOLED:
                x = F.max_pool2d(x, 3, 2)
            x = F.relu(F.conv2d(x, weight, bias, _STRIDES[i], _PADDING[i]))
            found.append(x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10))
        return found


def given_lpips(file: str | None) -> Lpips | None:
    """`Lpips.load` of a file, where one is given."""
    return None if file is None else Lpips.load(Path(file))


def shapes() -> dict[str, tuple[int, ...]]:
    """The arrays of a file of weights, name to shape."""
    found: dict[str, tuple[int, ...]] = {}
    for i, ((before, after), side) in enumerate(zip(pairwise(_CHANNELS), _KERNELS, strict=True)):
        found[f"conv.{i}.weight"] = (after, before, side, side)
        found[f"conv.{i}.bias"] = (after,)
        found[f"layer.{i}.weight"] = (after,)
    return found
