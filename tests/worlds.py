"""Confidence vectors and the inputs behind them, for tests that fit a defense."""

from __future__ import annotations

import torch
from distributions import draw
from torch import Tensor


def world(n: int, k: int, *shape: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Outputs, float32 [n, k], and inputs [n, *shape] that are a linear function of their logarithms."""
    p = draw("plain", n, k, seed).float()
    size = int(torch.tensor(shape).prod()) if shape else 1
    mixing = torch.randn(k, size, generator=torch.Generator().manual_seed(1))
    return p, (p.log() @ mixing).reshape(n, *shape)
