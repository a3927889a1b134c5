"""The Triton kernels under the interpreter against the table: closeness and promises, in memory that held NaN."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import table
import torch
from later import fewer, later
from table import Case
from torch import Tensor

from mipoison.ops.library import TRITON

DTYPES = tuple(table.TOLERANCE)
SIZES = (2, 3, 10, 15, 16, 17, 63, 64, 65, 100, 1000, 10_000)
# Cells that are checked every time. The l1 ball is slow to interpret, and long rows are slow on the reference.
QUICK = (
    *(("step", dtype, 10, "none") for dtype in DTYPES),
    *(("step", torch.float32, k, "none") for k in (2, 17)),
    ("step", torch.float32, 10, "l2"),
    *(("project", torch.float32, 2, norm) for norm in ("none", "l2", "linf")),
    ("project", torch.float64, 3, "l1"),
    ("step", torch.float32, 3, "linf"),
    *(("move", dtype, k, "l1") for k, dtype in zip((2, 10, 3, 3), DTYPES, strict=True)),
    ("move", torch.float32, 17, "l2"),
    ("move", torch.float32, 16, "linf"),
    *(("flip", dtype, k, "none") for k, dtype in zip((2, 17, 3, 4), DTYPES, strict=True)),
    *(("quantize", dtype, k, "none") for k, dtype in zip((2, 17, 3, 4), DTYPES, strict=True)),
)
FULL = tuple(
    (operation, dtype, k, norm)
    for operation, norms in table.NORMS.items()
    for norm in norms
    for dtype in DTYPES
    for k in SIZES
    if (operation, dtype, k, norm) not in QUICK
    and k <= table.MOST_CLASSES.get(operation, k)
    and (k < 10_000 or dtype == torch.float32)
)


def run(case: Case) -> tuple[Tensor, ...]:
    """The kernels' results, in memory that held NaN."""
    with table.poisoned():
        results: tuple[Tensor, ...] = TRITON[case.operation](*case.arguments)
    return results


def name_of(value: object) -> str:
    return str(value).removeprefix("torch.")


def check(case: Case) -> None:
    results = run(case)
    table.assert_agrees(case, results)
    table.assert_kept(case, results)


def some(operation: str, dtype: torch.dtype, k: int, norm: str) -> Iterator[Case]:
    """Two or three rows of each call; slow calls take turns from size to size."""
    searched = operation in ("step", "project") and norm != "none"
    for index, case in enumerate(table.cases(operation, dtype, k, norm, rows=1)):
        far = searched and table.SETTINGS[norm][index].length == table.FAR
        long = k > 1000 and index % 4 > 0
        turn = 4 if searched else fewer(3, 1) if operation in ("move", "flip", "quantize") else 1
        if not far and not long and index % turn == k % turn:
            yield case.only(torch.arange(index, index + fewer(3, 5), 2) % len(case.kinds))


@pytest.mark.parametrize(("operation", "dtype", "k", "norm"), QUICK, ids=name_of)
def test_agrees_and_keeps_every_promise(
    operation: str, dtype: torch.dtype, k: int, norm: str
) -> None:
    for case in some(operation, dtype, k, norm):
        check(case)


def many(operation: str, dtype: torch.dtype, k: int, norm: str) -> Iterator[Case]:
    """All rows of every call without ball; with one, a row of some calls, in turn from size to size.

    Where ball and label both bind, l1 searches long: to interpret one such row takes up to 20 seconds.
    """
    if operation not in ("step", "project") or norm == "none":
        whole = table.cases(operation, dtype, k, norm, rows=1)
        yield from whole if k < 1000 else some(operation, dtype, k, norm)
        return
    # Of long rows one on the border of its ball where the label does not bind.
    if k > 1000:
        border = table.SETTINGS[norm].index(table.Setting(0.02, 0.0, 0.1))
        case = list(table.cases(operation, dtype, k, norm, rows=1))[border]
        yield case.only(torch.tensor([case.kinds.index(f"plain {table.SETTINGS[norm][border]}")]))
        return
    every = 12 if dtype != torch.float32 else 4 if norm == "l1" else 2
    turn = k + DTYPES.index(dtype) + (operation == "project")
    for index, case in enumerate(table.cases(operation, dtype, k, norm, rows=1)):
        if (index + turn) % every == 0:
            yield case.only(torch.tensor([(index + turn) % len(case.kinds)]))


@pytest.mark.full
@pytest.mark.parametrize(("operation", "dtype", "k", "norm"), FULL, ids=name_of)
def test_the_whole_table(operation: str, dtype: torch.dtype, k: int, norm: str) -> None:
    for case in many(operation, dtype, k, norm):
        check(case)


@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
def test_a_row_on_the_border_of_its_ball(norm: str) -> None:
    """The default: the label's own margin, a moderate step, the ball active."""
    p = table.rows_of(10, 1)[:3].float()
    g = torch.randn(3, 10, generator=torch.Generator().manual_seed(1))
    case = Case("step", (p, g, p, None, 0.1, 0.02, norm, 0.0, True), ("border",) * 3)
    check(case)


@pytest.mark.parametrize("operation", ["step", "project", "move", "flip", "quantize"])
@pytest.mark.parametrize("k", [10, *later(300)])
def test_invalid_rows_get_the_safe_answer(operation: str, k: int) -> None:
    case = next(
        table.cases(operation, torch.float32, k, "l1" if operation == "move" else "none", 3)
    )
    spoilt = table.spoil(case)
    results = run(spoilt)
    table.assert_agrees(spoilt, results)
    table.assert_kept(spoilt, results)
    assert int(results[-1]) > 0


@pytest.mark.parametrize("entries", [[1.0] * 9, [math.inf, 1.0], [5.0, 1.0], [0.6, 0.3]])
def test_rows_of_a_label_with_a_broken_codeword_are_refused(entries: list[float]) -> None:
    k = len(entries)
    codewords = table.codewords_of(k, 2).clone()
    codewords[0, 1] = torch.tensor(entries)
    p = table.rows_of(k, 1).float()
    for offsets in (None, torch.tensor([[0.0, 0.1]]).repeat(k, 1)):
        case = Case("quantize", (p, codewords, offsets), ("row",) * len(p))
        results = run(case)
        table.assert_agrees(case, results)
        assert 0 < int(results[-1]) < len(p)
