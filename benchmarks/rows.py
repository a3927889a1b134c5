"""The inputs of every benchmark: rows, directions, the step length, and radii that nine rows of ten reach.

Rows are peaked, the softmax of 3·N(0, 1) logits; directions are Gaussian; α = 0.1. All are fixed, since the number of
Newton steps depends on them.
"""

from __future__ import annotations

import functools
import math
from pathlib import Path

import torch
from torch import Tensor

ALPHA = 0.1
SHARPNESS = 3.0
SIZES = (2, 10, 30, 100, 200, 400, 1000, 10_000, 128_000)
ORDER = {"l1": 1.0, "l2": 2.0, "linf": math.inf}
# Share of the rows whose step without a ball would stay inside the ball.
INSIDE = 0.1
# At most this many entries serve to measure the radius and the share of touching rows.
SAMPLE_ELEMENTS = 2_000_000
MIB = 2**20


def last_level_cache() -> int:
    """Bytes of the largest cache of the first core; 32 MiB where the system does not say."""
    sizes = Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")
    units = {"K": 2**10, "M": MIB}
    found = [path.read_text().strip() for path in sizes]
    return max((int(size[:-1]) * units[size[-1]] for size in found), default=32 * MIB)


def tensor_bytes() -> int:
    """Bytes of one tensor of a throughput benchmark: four times the last-level cache, within 64 and 512 MiB."""
    return min(max(4 * last_level_cache(), 64 * MIB), 512 * MIB)


@functools.lru_cache(maxsize=1)
def peaked(k: int, nbytes: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Rows p and directions g, [n, k], of nbytes each. The last result is cached."""
    generator = torch.Generator().manual_seed(k)
    n = max(1, nbytes // (k * dtype.itemsize))
    g = torch.randn(n, k, generator=generator)
    p = torch.softmax(SHARPNESS * torch.randn(n, k, generator=generator), 1)
    return p.to(dtype), g.to(dtype)


def sample(x: Tensor) -> Tensor:
    """The first rows of x, few enough to measure in float64."""
    return x[: max(1, SAMPLE_ELEMENTS // x.shape[1])]


def distances(q: Tensor, p: Tensor, norm: str) -> Tensor:
    """‖q − p‖ of the sampled rows in float64, with p renormalised."""
    center = sample(p).to(torch.float64)
    center = center / center.sum(1, keepdim=True)
    return torch.linalg.vector_norm(sample(q).to(torch.float64) - center, ORDER[norm], dim=1)


def binding_radius(p: Tensor, g: Tensor, norm: str) -> float:
    """The radius ε that nine rows of ten reach.

    It is a quantile of the distances that steps without a ball go, rounded down to two digits.
    """
    p, g = sample(p), sample(g)
    free = torch.ops.mipoison.step(p, g, None, None, ALPHA, math.inf, "l1", 0.0, False)[0]
    moves = distances(free, p, norm).sort().values
    quantile = float(moves[int(INSIDE * len(moves))])
    digit = 10.0 ** (math.floor(math.log10(quantile)) - 1)
    return float(f"{math.floor(quantile / digit) * digit:.2g}")


def touching(q: Tensor, p: Tensor, epsilon: float, norm: str) -> float:
    """Share of the sampled rows that end on the border of their ball, up to rounding."""
    slack = 1e-3 * epsilon + torch.finfo(p.dtype).eps
    return float((distances(q, p, norm) >= epsilon - slack).to(torch.float64).mean())
