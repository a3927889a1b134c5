"""Keyed counter-based randomness: Philox4x32-10 on a hash of the row (Salmon et al., SC 2011).

All randomness of a defense derives from (key, row), so that a repeated query gets the same answer
and teaches nothing. Only integer arithmetic is used: every backend draws the same bits. Philox is a
statistical generator, not a cryptographic pseudo-random function.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

_MASK32: Final = 0xFFFFFFFF
_PHILOX_M0: Final = 0xD2511F53
_PHILOX_M1: Final = 0xCD9E8D57
_PHILOX_W0: Final = 0x9E3779B9
_PHILOX_W1: Final = 0xBB67AE85
_GOLDEN64: Final = 0x9E3779B97F4A7C15
_MIX_A: Final = 0xBF58476D1CE4E5B9
_MIX_B: Final = 0x94D049BB133111EB
# The float32 pattern of 2⁻¹⁰⁰: smaller entries count as this one.
_FLOOR: Final = 27 << 23
_CELLS: Final = 4
# Cells are wider by up to this many powers of two, the wider the row's logarithms range.
_WIDEST: Final = 6


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], k0: int, k1: int) -> Tensor:
    """Philox4x32-10: four 32-bit words for each counter.

    Args:
        counter: four int64 tensors of one shape, entries in [0, 2³²).
        k0: first key word.
        k1: second key word.

    Returns:
        int64 tensor of the counters' shape with a last dimension of 4, entries in [0, 2³²).
    """
    c0, c1, c2, c3 = counter
    for _ in range(10):
        # int64 products wrap modulo 2⁶⁴, which keeps all bits of the unsigned 32 x 32 product.
        first, second = c0 * _PHILOX_M0, c2 * _PHILOX_M1
        c0, c1, c2, c3 = (
            ((second >> 32) & _MASK32) ^ c1 ^ k0,
            second & _MASK32,
            ((first >> 32) & _MASK32) ^ c3 ^ k1,
            first & _MASK32,
        )
        k0, k1 = (k0 + _PHILOX_W0) & _MASK32, (k1 + _PHILOX_W1) & _MASK32
    return torch.stack((c0, c1, c2, c3), dim=-1)


def _signed64(x: int) -> int:
    """The int64 with the bits of x modulo 2⁶⁴."""
    x &= (1 << 64) - 1
    return x - (1 << 64) if x >> 63 else x


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Logical right shift of int64; torch's own is arithmetic."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    """SplitMix64's finaliser."""
    x = (x ^ _shift_right(x, 30)) * _signed64(_MIX_A)
    x = (x ^ _shift_right(x, 27)) * _signed64(_MIX_B)
    return x ^ _shift_right(x, 31)


def _places(count: int, seed: int, salt: int, device: torch.device) -> Tensor:
    """Numbers to mix, int64 [count], different for every seed and salt."""
    position = torch.arange(1, count + 1, device=device, dtype=torch.int64)
    return position * _signed64(_GOLDEN64) + _signed64((seed << 32) + salt)


def coarse_cells(p: Tensor, grid: float) -> Tensor:
    """The grid cell of each entry, int64 [N, K]."""
    inverse = torch.tensor(1.0 / grid, dtype=torch.float32, device=p.device)
    return torch.round(p.to(torch.float32) * inverse).to(torch.int64)


def canonical_cells(p: Tensor, seed: int) -> Tensor:
    """The canonical cells of rows, which a classifier's rounding noise hardly ever changes: int64 [N, 4].

    A classifier's answer to one input differs in its last bits from batch to batch: in the logarithms of its entries by
    about 1e-7 of their range. If keyed words depended on those bits, one input would get several answers.

    1. The pattern of a float32 number, read as an integer, is a piecewise linear log2; `depth` is how far it lies above
       that of 2⁻¹⁰⁰.
    2. Four sums of the depths, with keyed weights of about mean zero, are cut into cells at keyed places.
    3. In a typical direction cells are 2ᵉ/50 to 2ᵉ/25 octaves wide, where 2ᵉ is the largest power of two within the
       row's range, the top depth less the mean depth. Such noise then moves one row in 10⁴ to 10⁵ into another cell,
       and rows of a confident classifier, which differ in the logarithms of small entries, lie in different cells.

    All arithmetic is in integers, so every backend finds the same cells. float64 rows are rounded to float32 first, so
    that all dtypes of one value share their cells.
    """
    k = p.shape[-1]
    pattern = p.to(torch.float32).contiguous().view(torch.int32).to(torch.int64)
    depth = pattern.clamp_min(_FLOOR) - _FLOOR
    byte = 8 * torch.arange(_CELLS, device=p.device, dtype=torch.int64)
    weights = ((_mix(_places(k, seed, 1, p.device)).unsqueeze(-1) >> byte) & 255) - 128
    sums = (depth.unsqueeze(-1) * weights).sum(-2)
    octaves = torch.arange(24, 24 + _WIDEST, device=p.device, dtype=torch.int64)
    total = k * depth.amax(-1, keepdim=True) - depth.sum(-1, keepdim=True)
    shift = 24 + k.bit_length() // 2 + (total >= k << octaves).sum(-1, keepdim=True)
    offset = _mix(_places(_CELLS, seed, 2, p.device)) & ((1 << shift) - 1)
    return (sums + offset) >> shift


def row_hash(p: Tensor, seed: int, grid: float) -> Tensor:
    """Order-independent 64-bit sum over j of mix(j, cell_j); int64 [N].

    The cells are those of the entries on the grid; with grid 0 the canonical cells.
    """
    cells = coarse_cells(p, grid) if grid > 0 else canonical_cells(p, seed)
    return _mix(cells + _places(cells.shape[-1], seed, 0, p.device)).sum(-1)


def row_words(p: Tensor, key: Tensor, draw: int, grid: float, words: int) -> Tensor:
    """The row's keyed random words, int64 [N, words] in [0, 2³²), under the four words of a key.

    Words 4i … 4i+3 are Philox under key (k0, k1) at counter (row hash, draw + i, k2); k3 seeds the
    hash.
    """
    k0, k1, k2, k3 = key.tolist()
    h = row_hash(p, k3, grid)
    blocks = (words + 3) // 4
    shape = (*h.shape, blocks)
    draws = (torch.arange(draw, draw + blocks, device=p.device) & _MASK32).expand(shape)
    low, high = h & _MASK32, _shift_right(h, 32)
    counter = (
        low.unsqueeze(-1).expand(shape),
        high.unsqueeze(-1).expand(shape),
        draws,
        torch.full_like(draws, k2),
    )
    return philox(counter, k0, k1).flatten(-2)[..., :words]


def uniforms(words: Tensor) -> Tensor:
    """Words in [0, 2³²) to float64 strictly inside (0, 1): (w + ½)/2³²."""
    return (words.to(torch.float64) + 0.5) * 2.0**-32


def mulhi32(word: Tensor, bound: Tensor | int) -> Tensor:
    """⌊word·bound/2³²⌋: an integer below bound < 2³¹ from a 32-bit word."""
    return (word * bound) >> 32
