"""Settings of the caller's thread that change arithmetic: every answer has the same bits under each of them."""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
from collections.abc import Callable, Iterator

import operands
import pytest
import torch
from table import codewords_of
from torch import Tensor

from mipoison import cpu
from mipoison.ops import library

OPS = torch.ops.mipoison
LIBM = ctypes.CDLL(ctypes.util.find_library("m"))
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
KEY = torch.tensor([1, 2**32 - 1, 77, 123456])
# fenv.h of x86-64 and of aarch64: upward, downward, toward zero.
ROUNDING = (
    (0x800, 0x400, 0xC00) if cpu.instruction_sets() != ("neon",) else (0x400000, 0x800000, 0xC00000)
)

Operation = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, ...]]


@contextlib.contextmanager
def denormals_flushed() -> Iterator[None]:
    tiny = torch.tensor([1e-40])
    assert torch.set_flush_denormal(True)
    try:
        yield
        # Given back.
        assert float(tiny * 1) == 0
    finally:
        torch.set_flush_denormal(False)


@contextlib.contextmanager
def rounded(mode: int) -> Iterator[None]:
    assert LIBM.fesetround(mode) == 0
    try:
        yield
        assert LIBM.fegetround() == mode
    finally:
        LIBM.fesetround(0)


SETTINGS: dict[str, Callable[[], contextlib.AbstractContextManager[None]]] = {
    "denormals flushed": denormals_flushed,
    "upward": lambda: rounded(ROUNDING[0]),
    "downward": lambda: rounded(ROUNDING[1]),
    "toward zero": lambda: rounded(ROUNDING[2]),
}


def _calls(ops: Callable[[str], Callable[..., tuple[Tensor, ...]]]) -> dict[str, Operation]:
    """Every operation by way of `ops`, in float32's fast ways and in float64."""
    project, step, move, flip = (ops(name) for name in ("project", "step", "move", "flip"))
    calls: dict[str, Operation] = {
        "flip": lambda p, g, v: flip(p, None, 0.5, KEY, "swap"),
        "flip project": lambda p, g, v: flip(p, None, 0.5, KEY, "project"),
        "straight": lambda p, g, v: move(p, v, 0.1, "l2", "straight"),
        "waterfill": lambda p, g, v: move(p, v, 0.1, "l1", "waterfill"),
        "sparse": lambda p, g, v: move(p, v, 0.1, "l1", "sparse"),
        "row_bits": lambda p, g, v: (ops("row_bits")(p, KEY, 3, 0.0, 6),),
        "row_bits grid": lambda p, g, v: (ops("row_bits")(p, KEY, 3, 0.1, 6),),
        "quantize": lambda p, g, v: ops("quantize")(p, codewords_of(p.shape[1], 3), None),
        "vjp": lambda p, g, v: (OPS.project_vjp(g, p, None, None, None, "l1", 0.0, False),),
    }
    for case in operands.CASES:
        calls[case] = lambda p, g, v, case=case: operands.call(case, p, v, ops)
    for norm, epsilon in (("l1", None), ("l1", 0.2), ("l2", 0.1), ("linf", 0.02)):
        calls[f"project {norm} {epsilon}"] = lambda p, g, v, n=norm, e=epsilon: project(
            g, p, None, e, n, 0.05, True
        )
        calls[f"step {norm} {epsilon}"] = lambda p, g, v, n=norm, e=epsilon: step(
            p, g, p, None, 0.5, e, n, 0.05, True
        )
    return calls


CALLS = {
    "compiled": _calls(lambda name: getattr(OPS, name)),
    "reference": _calls(lambda name: library.REFERENCE[name]),
}


def rows(n: int, k: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Rows with denormal entries, some with nothing else beside the label; directions; rows of p.s label."""
    generator = torch.Generator().manual_seed(n * 7919 + k)
    p = torch.softmax(30 * torch.randn(n, k, generator=generator, dtype=torch.float64), 1)
    p[::3, 1:] *= 1e-38
    p[::3, 0] = 1
    g = torch.randn(n, k, generator=generator, dtype=torch.float64)
    g[::2] *= 1e-38
    hot = torch.zeros_like(p).scatter_(1, p.argmax(1, keepdim=True), 1.0)
    return p.to(dtype), g.to(dtype), ((p + hot) / 2).to(dtype)


def same_bits(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> bool:
    # Without arithmetic, under which a denormal number is equal to zero.
    return all(bytes(x.numpy().data) == bytes(y.numpy().data) for x, y in zip(a, b, strict=True))


def bits(result: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(x.view(torch.int16) if x.dtype == torch.bfloat16 else x for x in result)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("instruction_set", cpu.instruction_sets())
def test_compiled_answers_do_not_depend_on_process_settings(
    instruction_set: str, dtype: torch.dtype, setting: str
) -> None:
    with cpu.using(instruction_set):
        # Columns, two classes, lines.
        for k in (2, 10, 400):
            given = rows(35, k, dtype)
            for name, call in CALLS["compiled"].items():
                expected = bits(call(*given))
                with SETTINGS[setting]():
                    answer = bits(call(*given))
                assert same_bits(answer, expected), (name, k)


@pytest.mark.parametrize("setting", SETTINGS)
def test_reference_does_not_depend_on_process_settings(setting: str) -> None:
    given = rows(35, 10, torch.float32)
    for name, call in CALLS["reference"].items():
        expected = call(*given)
        with SETTINGS[setting]():
            answer = call(*given)
        assert same_bits(answer, expected), name


@pytest.mark.parametrize("setting", SETTINGS)
def test_process_settings_do_not_affect_worker_threads(setting: str) -> None:
    given = rows(4001, 97, torch.float32)
    for name, call in CALLS["compiled"].items():
        if name == "vjp":
            continue
        torch.set_num_threads(4)
        expected = call(*given)
        with SETTINGS[setting]():
            answer = call(*given)
        torch.set_num_threads(1)
        assert same_bits(answer, expected), name


def test_standard_floats_end_with_their_block() -> None:
    tiny = torch.tensor([1e-40])
    with denormals_flushed():
        with cpu.StandardFloats():
            assert float(tiny * 1) > 0
        with pytest.raises(ZeroDivisionError), cpu.StandardFloats():
            raise ZeroDivisionError
        assert float(tiny * 1) == 0
