"""Keyed additive noise, projected back onto the vectors of the row's label."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from mipoison import ops
from mipoison.defenses.base import Defense
from mipoison.defenses.clean import as_dtype
from mipoison.keys import Key, KeyLike, resolve_key
from mipoison.ops.rows import label_of
from mipoison.ops.validation import as_number
from mipoison.random import uniforms


class KeyedNoise(Defense):
    """p + scale·noise, then the nearest probability vector with p's label.

    The noise is a function of (key, row): fresh noise could be averaged away by repeating the
    query. The projection undoes part of the noise, so compare defenses at the realised distortion,
    not at the scale.

    Args:
        scale: of the noise, in [0, 1e6], in units of confidence.
        key: 16 bytes or more, an int (for experiments) or None (one secret per process).
        on_invalid: see `Defense`.
        margin: see `Defense`.

    Raises:
        TypeError: for a setting or a key of a wrong kind.
        ValueError: for a setting out of its range, or a key of few bytes or of bytes that repeat themselves.
    """

    saved: ClassVar[tuple[str, ...]] = ("scale",)

    def __init__(
        self,
        *,
        scale: float = 0.05,
        key: KeyLike = None,
        on_invalid: str = "raise",
        margin: float = 1e-3,
    ) -> None:
        super().__init__(on_invalid=on_invalid, margin=margin)
        self.scale = as_number("scale", scale, 0.0, 1e6)
        self._key: Key = resolve_key(key)

    @staticmethod
    @abstractmethod
    def quantile(u: Tensor) -> Tensor:
        """The distribution's quantiles at u in (0, 1), float64."""

    def answer(self, p: Tensor) -> Tensor:
        """See `Defense.answer`."""
        words = ops.row_bits(p, key=self._key, words=p.shape[1])
        noisy = p.to(torch.float64) + self.scale * self.quantile(uniforms(words))
        # The label of p is kept, whatever the noise.
        label = label_of(p)
        return as_dtype(ops.project(noisy, label=label, validate=False), p.dtype, label)

    def extra_repr(self) -> str:
        """Settings, without the key."""
        return f"scale={self.scale:g}"


class LaplaceNoise(KeyedNoise):
    """Keyed Laplace noise, then the nearest probability vector with the row's label.

    Args:
        scale: its mean absolute value, in [0, 1e6], in units of confidence.
        key: 16 bytes or more, an int (for experiments) or None (one secret per process).
        on_invalid: see `Defense`.
        margin: see `Defense`.

    Raises:
        TypeError: for a setting or a key of a wrong kind.
        ValueError: for a setting out of its range, or a key of few bytes or of bytes that repeat themselves.
    """

    name: ClassVar[str] = "Laplace noise"

    @staticmethod
    def quantile(u: Tensor) -> Tensor:
        """``−sgn(u − ½)·ln(1 − |2u − 1|)``."""
        centered = 2 * u - 1
        return -centered.sign() * torch.log1p(-centered.abs())


class GaussianNoise(KeyedNoise):
    """Keyed Gaussian noise, then the nearest probability vector with the row's label.

    Args:
        scale: its standard deviation, in [0, 1e6], in units of confidence.
        key: 16 bytes or more, an int (for experiments) or None (one secret per process).
        on_invalid: see `Defense`.
        margin: see `Defense`.

    Raises:
        TypeError: for a setting or a key of a wrong kind.
        ValueError: for a setting out of its range, or a key of few bytes or of bytes that repeat themselves.
    """

    name: ClassVar[str] = "Gaussian noise"

    @staticmethod
    def quantile(u: Tensor) -> Tensor:
        """√2·erf⁻¹(2u − 1)."""
        standard: Tensor = 2**0.5 * torch.special.erfinv(2 * u - 1)
        return standard
