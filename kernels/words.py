"""9. A row's keyed words: an order-independent hash of its cells, then Philox4x32-10. Integers only."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from mipoison.kernels.launch import float64_shape, in_columns
from mipoison.kernels.rows import rows_of_program
from torch import Tensor


@triton.jit
def philox(c0, c1, c2, c3, k0, k1):
    """Philox4x32-10: four 32-bit words of a counter under a key; all of them uint64 that hold 32 bits."""
    for _ in range(10):
        first, second = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c2 = (second >> 32) ^ c1 ^ k0, (first >> 32) ^ c3 ^ k1
        c1, c3 = second & 0xFFFFFFFF, first & 0xFFFFFFFF
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c0, c1, c2, c3


@triton.jit
def mix(x):
    """SplitMix64's finaliser, of uint64."""
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB
    return x ^ (x >> 31)


@triton.jit
def _coarse_cells(x, inverse):
    """The grid cell of a float32 entry, to nearest even, as uint64."""
    scaled = x * inverse
    size = tl.abs(scaled)
    # From 2²³ on every float32 is an integer; NaN and infinities may get any cell.
    whole = tl.where(size < 8388608.0, (size + 8388608.0) - 8388608.0, size)
    cell = tl.where(size < 9e18, whole, 0.0).to(tl.int64)
    return tl.where(scaled < 0, -cell, cell).to(tl.uint64, bitcast=True)


@triton.jit
def hash_coarse(at, cols, k, ok, seed, inverse, CHUNKS: tl.constexpr):
    """Σ_j mix(j, cell_j) modulo 2⁶⁴, the cells being those of a grid; uint64 [R]."""
    total = tl.zeros_like(ok).to(tl.int64)
    for i in range(CHUNKS):
        here = cols + i * cols.shape[1]
        inside = ok[:, None] & (here < k)
        entry = tl.load(at + here, mask=inside, other=0.0).to(tl.float32)
        place = (here + 1).to(tl.uint64) * 0x9E3779B97F4A7C15 + (seed << 32)
        x = mix(_coarse_cells(entry, inverse) + place)
        total += tl.sum(tl.where(inside, x.to(tl.int64, bitcast=True), 0), 1)
    return total.to(tl.uint64, bitcast=True)


@triton.jit
def hash_canonical(at, cols, k, ok, seed, CHUNKS: tl.constexpr):
    """The same of the canonical cells, see mipoison/random.py; float64 rows are rounded to float32 first."""
    a = tl.zeros_like(ok).to(tl.int64)
    b, c, d, plain, top = a, a, a, a, a
    for i in range(CHUNKS):
        here = cols + i * cols.shape[1]
        inside = ok[:, None] & (here < k)
        entry = tl.load(at + here, mask=inside, other=0.0).to(tl.float32)
        # 27 << 23 is the pattern of 2⁻¹⁰⁰: smaller entries count as this one.
        pattern = tl.maximum(entry.to(tl.int32, bitcast=True), 226492416)
        depth = tl.where(inside, (pattern - 226492416).to(tl.int64), 0)
        drawn = mix((here + 1).to(tl.uint64) * 0x9E3779B97F4A7C15 + (seed << 32) + 1)
        drawn = drawn.to(tl.int64, bitcast=True)
        plain += tl.sum(depth, 1)
        top = tl.maximum(top, tl.max(depth, 1))
        a += tl.sum(depth * ((drawn & 255) - 128), 1)
        b += tl.sum(depth * (((drawn >> 8) & 255) - 128), 1)
        c += tl.sum(depth * (((drawn >> 16) & 255) - 128), 1)
        d += tl.sum(depth * (((drawn >> 24) & 255) - 128), 1)
    digits = tl.zeros_like(k)
    for i in range(31):
        digits += ((k >> i) > 0).to(tl.int32)
    # The wider the range of the row's logarithms, the wider the cells.
    classes = k.to(tl.int64)
    total = classes * top - plain
    shift = total * 0 + (24 + digits // 2)
    for octave in range(6):
        shift += (total >= (classes << (24 + octave))).to(tl.int64)
    hashed = _mixed_cell(a, seed, 1, shift) + _mixed_cell(b, seed, 2, shift)
    return hashed + _mixed_cell(c, seed, 3, shift) + _mixed_cell(d, seed, 4, shift)


@triton.jit
def _mixed_cell(total, seed, position: tl.constexpr, shift):
    """Mixes the canonical cell that a sum lies in, its offset drawn by the seed."""
    place = seed * 0 + position
    place = place.to(tl.uint64) * 0x9E3779B97F4A7C15 + (seed << 32)
    offset = mix(place + 2).to(tl.int64, bitcast=True) & ((shift * 0 + 1 << shift) - 1)
    return mix(((total + offset) >> shift).to(tl.uint64, bitcast=True) + place)


@triton.jit
def words_of(hashed, draw, k0, k1, k2):
    """The four words of draw number `draw`."""
    low, high = hashed & 0xFFFFFFFF, hashed >> 32
    draws = hashed * 0 + (draw.to(tl.uint64) & 0xFFFFFFFF)
    return philox(low, high, draws, hashed * 0 + k2, hashed * 0 + k0, hashed * 0 + k1)


# Key, draw and the number of rows are values, never part of what is compiled.
@triton.jit(do_not_specialize=["n", "k0", "k1", "k2", "k3", "draw"])
def row_bits_kernel(
    p,
    out,
    n,
    k,
    stride,
    k0: tl.int64,
    k1: tl.int64,
    k2: tl.int64,
    k3: tl.int64,
    draw: tl.int64,
    inverse: tl.float32,
    COARSE: tl.constexpr,
    WORDS: tl.constexpr,
    R: tl.constexpr,
    B: tl.constexpr,
    CHUNKS: tl.constexpr,
):
    """R rows a program."""
    row, ok = rows_of_program(n, R)
    at = p + (row * stride)[:, None]
    seed = k3.to(tl.uint64)
    cols = tl.arange(0, B)[None, :]
    if COARSE:
        hashed = hash_coarse(at, cols, k, ok, seed, inverse, CHUNKS)
    else:
        hashed = hash_canonical(at, cols, k, ok, seed, CHUNKS)
    keys = k0.to(tl.uint64), k1.to(tl.uint64), k2.to(tl.uint64)
    for i in range((WORDS + 3) // 4):
        a, b, c, d = words_of(hashed, draw + i, keys[0], keys[1], keys[2])
        to = out + row * WORDS + 4 * i
        tl.store(to, a.to(tl.int64), mask=ok)
        tl.store(to + 1, b.to(tl.int64), mask=ok & (4 * i + 1 < WORDS))
        tl.store(to + 2, c.to(tl.int64), mask=ok & (4 * i + 2 < WORDS))
        tl.store(to + 3, d.to(tl.int64), mask=ok & (4 * i + 3 < WORDS))


def row_bits(p: Tensor, key: Tensor, draw: int, grid: float, words: int) -> Tensor:
    """Returns the rows' keyed words, an int64 tensor ``[N, words]`` with values in [0, 2³²)."""
    p = in_columns(p)
    n, k = p.shape
    out = torch.empty((n, words), dtype=torch.int64, device=p.device)
    shape = float64_shape(k, "none")
    if n > 0:
        row_bits_kernel[shape.grid(n)](
            p,
            out,
            n,
            k,
            p.stride(0),
            *key.tolist(),
            draw,
            1 / grid if grid > 0 else 0.0,
            COARSE=grid > 0,
            WORDS=words,
            **shape.tile(),
            **shape.options(),
        )
    return out
