"""The compiled kernels of every instruction set against the table: closeness, promises, and rows that know nobody."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator, Sequence

import pytest
import table
import torch
from later import fewer, later, unless
from table import Case
from torch import Tensor

from mipoison import cpu

INSTRUCTION_SETS = cpu.instruction_sets()
WIDEST = INSTRUCTION_SETS[0]
FLOAT32 = torch.float32
LIBC = ctypes.CDLL(None)
M_PERTURB = -6  # malloc.h


# Sizes that are checked every time, by the bytes of an entry. The 16-bit types go the way of float32.
EVERY_TIME = {
    2: (9, 321),
    4: (2, 9, 17, 100, 321),
    8: (2, 9),
}
# In the l1 ball the reference searches nested roots, which takes long. What is left out here is compared with float64
# rows of the kernels, which are compared with the reference.
BY_REFERENCE_IN_L1 = {2: (17,), 4: (9,), 8: (9,)}
# Sizes that are compared with float64 rows every time.
BY_FLOAT64 = (2, 3, 5, 8, 9, 16, 17, 64, 100, 320, 321, 1000, 10_000)
MORE_SIZES = tuple(k for k in table.SIZES[FLOAT32] if k not in BY_FLOAT64)
MOVES = tuple((name, norm) for name in ("move", "flip") for norm in table.NORMS[name])
Cell = tuple[str, torch.dtype, int, str]


def thinned(sizes: dict[int, tuple[int, ...]], cells: Sequence[Cell] = table.TABLE) -> list[object]:
    """The cells of the table, those of other sizes left to --full."""
    kept = tuple(cell for cell in cells if cell[2] in sizes[cell[1].itemsize])
    return unless(kept, cells)


BY_REFERENCE = [
    *thinned(EVERY_TIME, [cell for cell in table.TABLE if cell[3] != "l1"]),
    *thinned(BY_REFERENCE_IN_L1, [cell for cell in table.TABLE if cell[3] == "l1"]),
]


def name_of(value: object) -> str:
    return str(value).removeprefix("torch.")


@contextlib.contextmanager
def spoilt_memory() -> Iterator[None]:
    """What the extension allocates meanwhile holds what no answer does: 0x7f7f… is 3e38 in float32."""
    # glibc fills memory with the complement of this byte.
    assert LIBC.mallopt(M_PERTURB, 0x80) == 1
    try:
        assert (torch.empty(2000, dtype=torch.uint8) == 0x7F).all()
        yield
    finally:
        LIBC.mallopt(M_PERTURB, 0)


def run(case: Case, instruction_set: str) -> tuple[Tensor, ...]:
    """The compiled kernels' results, in memory that held something else."""
    operator = getattr(torch.ops.mipoison, case.operation)
    with cpu.using(instruction_set), spoilt_memory():
        results: tuple[Tensor, ...] = operator(*case.arguments)
    return results


def many_cases(operation: str, dtype: torch.dtype, k: int, norm: str, most: int = 20) -> list[Case]:
    """The settings of a cell, on about as many entries at each size."""
    rows = min(most, max(1, 100 * most // k))
    return list(table.cases(operation, dtype, k, norm, rows, every=dtype == FLOAT32))


# The innermost parameter first: what the reference answered is at hand for the next instruction set.
@pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS)
@pytest.mark.parametrize(("operation", "dtype", "k", "norm"), BY_REFERENCE, ids=name_of)
def test_agrees_with_the_reference(
    operation: str, dtype: torch.dtype, k: int, norm: str, instruction_set: str
) -> None:
    for case in table.small_cases(operation, dtype, k, norm):
        table.assert_agrees(case, run(case, instruction_set))


@pytest.mark.parametrize(
    ("operation", "dtype", "k", "norm"),
    thinned({2: (9,), 4: (2, 9, 17, 321), 8: (2, 9)}),
    ids=name_of,
)
def test_guarantees_hold(operation: str, dtype: torch.dtype, k: int, norm: str) -> None:
    for case in many_cases(operation, dtype, k, norm):
        for instruction_set in INSTRUCTION_SETS:
            table.assert_kept(case, run(case, instruction_set))


@pytest.mark.full
@pytest.mark.parametrize(
    ("k", "norm"),
    [
        *((k, norm) for k in BY_FLOAT64 for norm in table.NORMS["step"]),
        *later(*((k, norm) for k in MORE_SIZES for norm in table.NORMS["step"])),
        (70_000, "none"),
    ],
)
def test_many_float32_rows_agree_with_float64(k: int, norm: str) -> None:
    for operation in ("step", "project"):
        for case in many_cases(operation, FLOAT32, k, norm):
            exact, status = run(case.to(torch.float64), WIDEST)
            for instruction_set in INSTRUCTION_SETS:
                q, same = run(case, instruction_set)
                table.assert_near(case, q, exact, table.TOLERANCE[FLOAT32])
                assert torch.equal(same, status)


# Sums off by as much as is accepted, each row by another share: float32 must renormalise as float64 does.
@pytest.mark.parametrize(
    ("operation", "k", "norm"),
    [
        *((name, k, norm) for name, norm in MOVES for k in BY_FLOAT64),
        *later(*((name, k, norm) for name, norm in MOVES for k in MORE_SIZES)),
        ("move", 70_000, "l1"),
        ("flip", 70_000, "none"),
    ],
)
def test_float32_rows_move_and_flip_as_float64_rows_do(operation: str, k: int, norm: str) -> None:
    for case in many_cases(operation, FLOAT32, k, norm):
        n = len(case.kinds)
        off = 9e-5 * torch.linspace(-1, 1, n)[:, None]
        p, target, *rest = case.arguments
        if operation == "move":
            target = target * (1 + off.flip(0))
        case = Case(operation, (p * (1 + off), target, *rest), case.kinds)
        exact, *same = run(case.to(torch.float64), WIDEST)
        for instruction_set in INSTRUCTION_SETS:
            q, *others = run(case, instruction_set)
            table.assert_near(case, q, exact, table.TOLERANCE[FLOAT32])
            assert all(torch.equal(x, y) for x, y in zip(others, same, strict=True))
            table.assert_kept(case, (q, *others))


# A few lanes of a group, or none but the last: rows that wait must not be lost or mixed up.
@pytest.mark.parametrize("style", ["swap", "project"])
@pytest.mark.parametrize("k", [2, 10, 320, 321])
@pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS)
def test_flips_are_place_invariant(k: int, style: str, instruction_set: str) -> None:
    p = table.rows_of(k, 6).float()[:41]
    label = p.argmax(1)
    for flipped in ([0], [40], [3, 5, 15, 16, 31, 32], range(16), range(25, 41), range(41)):
        targets = torch.full((41,), -1)
        targets[list(flipped)] = (label[list(flipped)] + 1) % k
        case = Case("flip", (p, targets, 1.0, torch.tensor(table.KEY), style), ("row",) * 41)
        results = run(case, instruction_set)
        table.assert_agrees(case, results)
        table.assert_kept(case, results)


@pytest.mark.parametrize("norm", table.ORDER)
@pytest.mark.parametrize("k", [10, 100, 1000])
def test_the_table_holds_rows_that_need_every_constraint(k: int, norm: str) -> None:
    ends = {"inside": 0, "on the border": 0, "held by the label too": 0}
    for case in many_cases("step", FLOAT32, k, norm, most=50):
        epsilon = case.region[2]
        q, _ = run(case, WIDEST)
        center, label, margin, valid = table.judged(case)
        moved = torch.linalg.vector_norm(q.double() - center, table.ORDER[norm], dim=1)
        border = valid & (moved > epsilon - 1e-6) & (epsilon > 1e-5)
        held = border & (table.lead_of(q.double(), label) < margin + 1e-6)
        ends["inside"] += int((valid & ~border).sum())
        ends["on the border"] += int((border & ~held).sum())
        ends["held by the label too"] += int(held.sum())
    assert min(ends.values()) > 20, ends


# Rows of the table, broken ones among them, alone and in all company: a group of sixteen, one less,
# one more, and enough that the rows which wait for another stage fill groups of their own.
@pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS)
@pytest.mark.parametrize(
    ("operation", "dtype", "k", "norm"),
    thinned({2: (9,), 4: (2, 17, 321), 8: (9,)}),
    ids=name_of,
)
def test_batch_invariance_beside_other_rows(
    operation: str, dtype: torch.dtype, k: int, norm: str, instruction_set: str
) -> None:
    generator = torch.Generator().manual_seed(k)
    for case in table.cases(operation, dtype, k, norm, rows=3, every=False):
        case = table.spoil(case)
        n = len(case.kinds)
        singly = [run(case.only(torch.tensor([i])), instruction_set) for i in range(n)]
        alone = [
            torch.stack(x) if x[0].ndim == 0 else torch.cat(x) for x in zip(*singly, strict=True)
        ]
        for company in (15, 16, 17, 33, 150):
            rows = torch.randint(0, n, (company,), generator=generator)
            *results, status = run(case.only(rows), instruction_set)
            for together, single in zip(results, alone, strict=False):
                assert torch.equal(together, single[rows]), company
            assert int(status) == int(alone[-1][rows].sum())


@pytest.mark.parametrize(
    ("operation", "dtype", "k", "norm"),
    thinned({2: (9,), 4: (2, 17, 321), 8: (9,)}),
    ids=name_of,
)
def test_only_invalid_rows_get_the_safe_answer(
    operation: str, dtype: torch.dtype, k: int, norm: str
) -> None:
    for case in table.cases(operation, dtype, k, norm, rows=6, every=False):
        broken = table.spoil(case)
        for instruction_set in INSTRUCTION_SETS:
            table.assert_kept(broken, run(broken, instruction_set))


@pytest.mark.parametrize("operation", table.NORMS)
def test_invalid_rows_match_the_reference(operation: str) -> None:
    for norm in table.NORMS[operation]:
        for case in map(
            table.spoil, table.cases(operation, FLOAT32, 7, norm, rows=fewer(2, 6), every=False)
        ):
            for instruction_set in INSTRUCTION_SETS:
                table.assert_agrees(case, run(case, instruction_set))


def float16_row(k: int, generator: torch.Generator) -> Tensor:
    """A float16 row [k] that sums to exactly 1, its label first and half of it subnormal."""
    # In units of 2^-24, float16's least. Two entries fill the sum up to what 1 − sum can hold.
    few = torch.randint(0, 2**10, (k // 2,), generator=generator)
    more = torch.randint(0, 2**10, (k - k // 2 - 3,), generator=generator) * 2**3
    total = int(few.sum() + more.sum())
    small = -total % 2**11
    large = -(total + small) % 2**13
    lead = 2**24 - total - small - large
    return torch.cat([torch.tensor([lead, small, large]), few, more]).to(torch.float64) / 2**24


@pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS)
@pytest.mark.parametrize("k", [16, 40, 400])
def test_float16_entries_too_small_to_be_normal_survive(k: int, instruction_set: str) -> None:
    generator = torch.Generator().manual_seed(k)
    exact = torch.stack([float16_row(k, generator) for _ in range(20)])
    p = exact.to(torch.float16)
    assert torch.equal(p.double(), exact) and torch.equal(
        exact.sum(1), torch.ones_like(exact[:, 0])
    )
    with cpu.using(instruction_set):
        q, status = torch.ops.mipoison.project(p, None, None, float("inf"), "l1", 0.0, False)
    assert torch.equal(q, p) and int(status) == 0
