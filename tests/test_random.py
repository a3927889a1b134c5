"""The keyed generator: published answers, statistics, the same words on every backend."""

from __future__ import annotations

import pytest
import torch
from distributions import draw
from later import later
from table import TOLERANCE
from torch import Tensor

import mipoison as mp
from mipoison import cpu, reference
from mipoison.random import philox


@pytest.mark.parametrize(
    ("counter", "key", "answer"),
    [
        (
            [0, 0, 0, 0],
            [0, 0],
            [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8],
        ),
        (
            [0xFFFFFFFF] * 4,
            [0xFFFFFFFF] * 2,
            [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD],
        ),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox_gives_the_known_answers(
    counter: list[int], key: list[int], answer: list[int]
) -> None:
    """Known-answer vectors of the Random123 distribution (Salmon et al., SC 2011)."""
    words = [torch.tensor([c]) for c in counter]
    assert philox((words[0], words[1], words[2], words[3]), *key)[0].tolist() == answer


def test_words_depend_on_row_key_and_draw() -> None:
    p = draw("plain", 2, 5)
    first = mp.row_bits(p, key=1)
    assert torch.equal(first, mp.row_bits(p, key=1))
    assert not torch.equal(first, mp.row_bits(p, key=2))
    assert not torch.equal(first, mp.row_bits(p, key=1, draw=1))
    assert not torch.equal(first[0], first[1])
    assert torch.equal(mp.row_bits(p, key=1, words=10)[:, 4:8], mp.row_bits(p, key=1, draw=1))


def test_words_are_uniform() -> None:
    bits = mp.row_bits(draw("plain", 50_000, 10), key=b"sixteen uniforms").double() / 2**32
    # Means of 50,000 uniforms: the standard error is 0.0013.
    assert (bits.mean(0) - 0.5).abs().max() < 0.006
    histogram = torch.histc(bits[:, 0], 20, 0, 1)
    assert ((histogram - 2500).square() / 2500).sum() < 45  # χ² with 19 degrees: p ≈ 7e-4


def test_all_dtypes_of_one_value_share_their_words() -> None:
    p = draw("plain", 16, 8).to(torch.float16)
    words = [
        mp.row_bits(p.to(dtype), key=3) for dtype in (torch.float16, torch.float32, torch.float64)
    ]
    assert torch.equal(words[0], words[1]) and torch.equal(words[0], words[2])


def test_a_coarse_grid_is_shared_by_near_duplicates() -> None:
    p = torch.tensor([[0.70, 0.20, 0.10], [0.71, 0.19, 0.10], [0.40, 0.35, 0.25]])
    coarse, exact = mp.row_bits(p, key=0, grid=0.25), mp.row_bits(p, key=0)
    assert torch.equal(coarse[0], coarse[1]) and not torch.equal(coarse[0], coarse[2])
    assert not torch.equal(exact[0], exact[1])


# Keyed words are integers: every backend draws the same bits. At least 10⁵ counters a comparison.
COUNTERS = 120_000
KEYS = ([3, 5, 8, 2**32 - 1], [2**32 - 1, 0, 2**31, 0])


@pytest.fixture(scope="module")
def rows() -> Tensor:
    """Rows of all magnitudes, some of them with zeros of either sign."""
    p = torch.cat([draw(d, COUNTERS // 3, 10, seed=4) for d in ("plain", "peaked", "zeros")])
    return torch.where(p == 0, torch.copysign(p, torch.arange(10) % 2 - 0.5), p)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("grid", [0.0, 0.1, 0.25])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_every_instruction_set_draws_the_words_of_the_reference(
    rows: Tensor, dtype: torch.dtype, grid: float, key: list[int]
) -> None:
    # The draw counts on from 2³² − 1 to 0 within a row; seven words take two counters.
    for p in (rows.to(dtype), draw("plain", 50, 1000).to(dtype), draw("plain", 50, 3).to(dtype)):
        arguments = (p, torch.tensor(key), 2**32 - 1, grid, 7)
        expected = reference.row_bits(*arguments)
        assert int(expected.min()) >= 0 and int(expected.max()) < 2**32
        for name in cpu.instruction_sets():
            with cpu.using(name):
                assert torch.equal(torch.ops.mipoison.row_bits(*arguments), expected)


@pytest.mark.parametrize("key", [KEYS[0], *later(KEYS[1])])
@pytest.mark.parametrize("rate", [1e-3, 0.5, 1.0])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_every_instruction_set_flips_the_rows_of_the_reference(
    rows: Tensor, dtype: torch.dtype, rate: float, key: list[int]
) -> None:
    p = rows.to(dtype)
    expected, labels, valid = reference.flip(p, None, rate, torch.tensor(key), "swap")
    assert valid.all()
    share = (labels != reference.label_of(p)).double().mean()
    assert abs(float(share) - rate) < 6 * (rate * (1 - rate) / len(p)) ** 0.5 + 1e-9
    for name in cpu.instruction_sets():
        with cpu.using(name):
            q, same, status = torch.ops.mipoison.flip(p, None, rate, torch.tensor(key), "swap")
        assert int(status) == 0 and torch.equal(same, labels)
        assert (q.double() - expected.double()).abs().max() <= TOLERANCE[dtype]


def test_grids_too_fine_for_the_backends_are_refused() -> None:
    p = draw("plain", 9, 10).float()
    for grid in (1e-10, 1e-20, 1e-38, 5e-324):
        with pytest.raises(ValueError, match=r"expected grid to be 0 or in \[1e-09, 1\]"):
            mp.row_bits(p, key=1, grid=grid)
    fine = {
        backend: mp.row_bits(p, key=1, grid=1e-9, backend=backend)
        for backend in ("cpp", "reference")
    }
    assert torch.equal(fine["cpp"], fine["reference"]) and len(fine["cpp"].unique(dim=0)) == 9


@pytest.mark.parametrize("words", [2**20 + 1, 10**13, 2**70])
def test_more_words_than_a_call_gives_are_refused(words: int) -> None:
    with pytest.raises(ValueError, match=r"expected words <= 1048576, got .*draw="):
        mp.row_bits(draw("plain", 9, 10).float(), key=1, words=words)
