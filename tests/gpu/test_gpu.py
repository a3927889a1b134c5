"""The Triton kernels on a GPU: the table, and what a server asks of them: graphs, no synchronisation, full graphs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import table
import torch
from distributions import directions, draw
from torch import Tensor

import mipoison as mp
from mipoison.ops.library import CPP, REFERENCE, TRITON

DTYPES = tuple(table.TOLERANCE)
SIZES = (2, 3, 10, 15, 16, 17, 63, 64, 65, 100, 1000, 10_000)
# The other dtypes: each of their kernels is compiled when it is first called, and the reference is slow.
OTHER_SIZES = (10, 65, 1000)
NORMS = ("none", "l1", "l2", "linf")
KEY = torch.tensor(table.KEY)
CELLS = tuple(
    (operation, dtype, k, norm)
    for operation, norms in table.NORMS.items()
    for norm in norms
    for dtype in DTYPES
    for k in (SIZES if dtype == torch.float32 else OTHER_SIZES)
)


def name_of(value: object) -> str:
    return str(value).removeprefix("torch.")


def on_gpu(case: table.Case) -> tuple[Any, ...]:
    """The arguments with their rows on the GPU; one tensor given twice stays one, a key stays here."""
    made: dict[int, Tensor] = {}

    def moved(x: Any) -> Any:
        stays = case.operation == "flip" and not case.has_rows(x)
        return made.setdefault(id(x), x.cuda()) if isinstance(x, Tensor) and not stays else x

    return tuple(map(moved, case.arguments))


def run(case: table.Case) -> tuple[Tensor, ...]:
    """The kernels' results on the CPU, written to memory that held NaN."""
    with table.poisoned():
        results = TRITON[case.operation](*on_gpu(case))
    return tuple(x.cpu() for x in results)


def rows(n: int, k: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    p = draw("plain", n, k).to(dtype)
    return p.cuda(), directions(n, k).to(dtype).cuda()


def arguments(p: Tensor, g: Tensor, norm: str) -> tuple[object, ...]:
    epsilon = math.inf if norm == "none" else 0.02
    return (p, g, p, None, 0.1, epsilon, "l1" if norm == "none" else norm, 0.0, True)


@pytest.fixture
def no_sync() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize(("operation", "dtype", "k", "norm"), CELLS, ids=name_of)
def test_agrees_and_keeps_every_promise(
    operation: str, dtype: torch.dtype, k: int, norm: str
) -> None:
    for case in table.cases(operation, dtype, k, norm, rows=1):
        results = run(case)
        if k < 1000:
            table.assert_agrees(case, results)
        table.assert_kept(case, results)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("k", [16_001, 16_384, 131_072])
def test_long_rows(k: int, norm: str) -> None:
    p, g = rows(3, k)
    q, status = TRITON["step"](*arguments(p, g, norm))
    ours, _ = CPP["step"](*arguments(p.cpu(), g.cpu(), norm))
    assert int(status) == 0
    assert float((q.cpu() - ours).abs().max()) <= table.TOLERANCE[torch.float32]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("k", [10, 100, 1000])
def test_batch_invariance(k: int, norm: str) -> None:
    p, g = rows(333, k)
    whole, _ = TRITON["step"](*arguments(p, g, norm))
    order = torch.randperm(333, generator=torch.Generator().manual_seed(0))[:57].cuda()
    some, _ = TRITON["step"](*arguments(p[order], g[order], norm))
    assert torch.equal(some, whole[order])


def test_rows_beyond_32_bits_of_offset() -> None:
    k = 1000
    n = 2**31 // k + 5
    if torch.cuda.mem_get_info()[0] < 4 * n * k * 2 * 3:
        pytest.skip("needs 26 GB of free GPU memory")
    p = torch.softmax(torch.randn(5, k, device="cuda"), 1).half()
    big = p[:1].expand(n, k).contiguous()
    big[-5:] = p
    q, status = TRITON["project"](big, None, None, math.inf, "l1", 0.0, False)
    expected, _ = TRITON["project"](p, None, None, math.inf, "l1", 0.0, False)
    assert int(status) == 0 and torch.equal(q[-5:], expected)


@pytest.mark.parametrize("norm", NORMS)
def test_a_captured_step_replays(norm: str) -> None:
    p, g = rows(32, 1000)
    epsilon = None if norm == "none" else 0.02
    settings = {"alpha": 0.1, "epsilon": epsilon, "norm": "l1" if norm == "none" else norm}
    expected = mp.step(p, g, center=p, validate=False, **settings)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = mp.step(p, g, center=p, validate=False, **settings)
    result.fill_(math.nan)
    graph.replay()
    assert torch.equal(result, expected)
    g.copy_(directions(32, 1000, seed=9))
    graph.replay()
    assert torch.equal(result, mp.step(p, g, center=p, validate=False, **settings))


@pytest.mark.parametrize("norm", NORMS)
def test_nothing_synchronises_without_validation(norm: str, no_sync: None) -> None:
    p, g = torch.rand(8, 50, device="cuda"), torch.rand(8, 50, device="cuda")
    p = p / p.sum(1, keepdim=True)
    TRITON["step"](*arguments(p, g, norm))
    TRITON["flip"](p, None, 0.5, KEY, "swap")
    TRITON["row_bits"](p, KEY, 0, 0.1, 4)
    for style in ("waterfill", "sparse"):
        TRITON["move"](p, p, 0.1, "l1", style)
    mp.step(p, g, center=p, alpha=0.1, epsilon=0.1, validate=False)


def test_one_full_graph() -> None:
    p, g = rows(16, 100)

    def served(p: Tensor, g: Tensor) -> Tensor:
        return torch.ops.mipoison.step(*arguments(p, g, "l1"))[0] * 1.0

    assert torch.equal(torch.compile(served, fullgraph=True)(p, g), served(p, g))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("grid", [0.0, 0.1])
def test_the_same_words(grid: float, dtype: torch.dtype) -> None:
    p = draw("plain", 30_000, 10).to(dtype)
    ours = TRITON["row_bits"](p.cuda(), KEY, 2**32 - 1, grid, 8)
    assert torch.equal(ours.cpu(), REFERENCE["row_bits"](p, KEY, 2**32 - 1, grid, 8))


def test_flips_agree_with_the_compiled_kernels() -> None:
    p = draw("plain", 5000, 10).float()
    for style in ("swap", "project"):
        ours = TRITON["flip"](p.cuda(), None, 0.3, KEY, style)
        theirs = CPP["flip"](p, None, 0.3, KEY, style)
        assert torch.equal(ours[1].cpu(), theirs[1])
        assert float((ours[0].cpu() - theirs[0]).abs().max()) <= 1e-7


def test_the_backend_is_named_and_chosen() -> None:
    p, g = rows(4, 10)
    assert mp.backends()["triton"] is True
    chosen = mp.step(p, g, center=p, alpha=0.1, epsilon=0.1, backend="triton")
    assert torch.equal(chosen, mp.step(p, g, center=p, alpha=0.1, epsilon=0.1))
