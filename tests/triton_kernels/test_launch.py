"""What a row's answer must not depend on: its batch, its layout, its length's way through the kernel."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import table
import torch
from distributions import directions
from later import later
from mipoison.kernels import launch, project

from mipoison.ops.library import REFERENCE, TRITON

NORMS = ("none", "l1", "l2", "linf")


def arguments(p: torch.Tensor, g: torch.Tensor, norm: str) -> tuple[object, ...]:
    epsilon = math.inf if norm == "none" else 0.02
    return (p, g, p, None, 0.1, epsilon, "l1" if norm == "none" else norm, 0.0, True)


@pytest.mark.parametrize("norm", NORMS)
def test_batch_invariance(norm: str) -> None:
    k = 11
    p, g = table.rows_of(k, 1)[2:5].float(), directions(3, k).float()
    whole, _ = TRITON["step"](*arguments(p, g, norm))
    order = torch.tensor([2, 0])
    some, _ = TRITON["step"](*arguments(p[order], g[order], norm))
    assert torch.equal(some, whole[order])
    alone, _ = TRITON["step"](*arguments(p[1:2], g[1:2], norm))
    assert torch.equal(alone[0], whole[1])


@pytest.mark.full
def test_batch_invariance_of_the_other_operations() -> None:
    for operation in ("flip", "move", "quantize"):
        norm = "l1" if operation == "move" else "none"
        case = list(table.cases(operation, torch.float32, 17, norm, 2))[-1]
        order = torch.tensor([3, 0, 11])
        whole = TRITON[operation](*case.arguments)
        some = TRITON[operation](*case.only(order).arguments)
        assert torch.equal(some[0], whole[0][order])


def test_the_shape_is_a_function_of_k_dtype_and_norm() -> None:
    for k in (2, 16, 17, 128, 129, 1000, 8192, 8193, 131_072):
        for norm in NORMS:
            shape, try_float32 = project.plan(k, torch.float32, norm)
            assert k <= shape.C * shape.CHUNKS and (not try_float32 or k <= shape.B)
            assert shape.warps in (1, 2, 4, 8, 16)


@pytest.mark.parametrize("norm", NORMS)
def test_strided_rows_and_a_given_output(norm: str) -> None:
    p, g = table.rows_of(11, 1)[2:4].float(), directions(2, 11).float()
    expected, _ = TRITON["step"](*arguments(p, g, norm))
    wide = torch.full((2, 32), math.nan)
    wide[:, 5:16] = p
    rows, along = wide[:, 5:16], g.t().contiguous().t()
    out = torch.full((2, 20), math.nan)
    result, status = TRITON["step"](*arguments(rows, along, norm), out[:, 2:13])
    assert int(status) == 0 and result.data_ptr() == out[:, 2:13].data_ptr()
    assert torch.equal(out[:, 2:13], expected)
    assert out[:, :2].isnan().all() and out[:, 13:].isnan().all()


@pytest.mark.parametrize("norm", ["none", "l1", *later("l2", "linf")])
def test_rows_in_chunks_agree_with_the_reference(
    norm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    k = 37
    short = replace(launch.float64_shape(k, norm), R=1, B=16, C=16, CHUNKS=3)
    monkeypatch.setattr(project, "plan", lambda *_: (short, False))
    p, g = table.rows_of(k, 1).float()[2:5], directions(3, k).float()
    with table.poisoned():
        ours, status = TRITON["step"](*arguments(p, g, norm))
    theirs, _ = REFERENCE["step"](*arguments(p, g, norm))
    assert int(status) == 0
    assert float((ours - theirs).abs().max()) <= table.TOLERANCE[torch.float32]


def test_empty_batches() -> None:
    p = torch.zeros(0, 5)
    q, status = TRITON["step"](*arguments(p, p, "l1"))
    assert q.shape == (0, 5) and int(status) == 0
