"""The keyed words in the kernel: the same bits as the reference's and the compiled kernels', over 10⁵ counters."""

from __future__ import annotations

import itertools

import pytest
import torch
import triton
import triton.language as tl
from distributions import draw
from later import unless
from mipoison.kernels.words import philox

from mipoison.ops.library import CPP, REFERENCE, TRITON
from mipoison.random import philox as reference_philox

COUNTERS = 1 << 17
KEY = torch.tensor([1, 2**31, 2**32 - 1, 7])


@triton.jit
def _philox_kernel(counters, out, k0: tl.int64, k1: tl.int64, N: tl.constexpr):
    i = tl.arange(0, N)
    c0 = tl.load(counters + i).to(tl.uint64)
    c1 = tl.load(counters + N + i).to(tl.uint64)
    c2 = tl.load(counters + 2 * N + i).to(tl.uint64)
    c3 = tl.load(counters + 3 * N + i).to(tl.uint64)
    a, b, c, d = philox(c0, c1, c2, c3, c0 * 0 + k0.to(tl.uint64), c0 * 0 + k1.to(tl.uint64))
    tl.store(out + 4 * i, a.to(tl.int64))
    tl.store(out + 4 * i + 1, b.to(tl.int64))
    tl.store(out + 4 * i + 2, c.to(tl.int64))
    tl.store(out + 4 * i + 3, d.to(tl.int64))


def test_philox_over_many_counters() -> None:
    generator = torch.Generator().manual_seed(0)
    counters = torch.randint(0, 2**32, (4, COUNTERS), generator=generator)
    out = torch.full((COUNTERS, 4), -1)
    _philox_kernel[(1,)](counters, out, 2**32 - 1, 5, COUNTERS)
    expected = reference_philox(tuple(counters), 2**32 - 1, 5)
    assert torch.equal(out, expected)


@pytest.mark.parametrize(
    ("dtype", "grid"),
    unless(
        ((torch.float32, 0.0), (torch.float64, 0.1)),
        itertools.product(
            (torch.float32, torch.float64, torch.float16, torch.bfloat16), (0.0, 0.1, 0.25)
        ),
    ),
)
def test_row_bits(dtype: torch.dtype, grid: float) -> None:
    for n, k in ((40, 10), (2, 3000)):
        p = draw("plain", n, k).to(dtype)
        ours = TRITON["row_bits"](p, KEY, 2**32 - 1, grid, 7)
        assert torch.equal(ours, REFERENCE["row_bits"](p, KEY, 2**32 - 1, grid, 7))
        assert torch.equal(ours, CPP["row_bits"](p, KEY, 2**32 - 1, grid, 7))


def test_flips_choose_the_same_rows_and_labels() -> None:
    p = draw("plain", 100, 10).float()
    ours = TRITON["flip"](p, None, 0.3, KEY, "swap")
    theirs = CPP["flip"](p, None, 0.3, KEY, "swap")
    assert torch.equal(ours[1], theirs[1]) and torch.equal(ours[0], theirs[0])
    assert 10 < int((ours[1] != p.argmax(1)).sum()) < 60
