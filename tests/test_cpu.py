"""What the compiled kernels promise beyond the mathematics: threads, forks, layouts, memory."""

from __future__ import annotations

import itertools
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator

import operands
import pytest
import table
import torch
from table import codewords_of

import mipoison as mp
from mipoison import cpu

OPS = torch.ops.mipoison

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
KEY = torch.tensor([1, 2**32 - 1, 77, 123456])
INF = float("inf")

Operation = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, ...]]

OPERATIONS: dict[str, Operation] = {
    "project": lambda p, g: OPS.project(g, None, None, INF, "l1", 0.0, False),
    "project l1": lambda p, g: OPS.project(g, p, None, 0.2, "l1", 0.05, True),
    "step": lambda p, g: OPS.step(p, g, None, None, 0.1, INF, "l1", 0.0, False),
    "step centered": lambda p, g: OPS.step(p, g, p, None, 0.1, INF, "l1", 0.0, False),
    "step far": lambda p, g: OPS.step(p, g, p, None, 50.0, INF, "l1", 0.1, False),
    "step l1": lambda p, g: OPS.step(p, g, p, None, 0.5, 0.1, "l1", 0.05, True),
    "step l2": lambda p, g: OPS.step(p, g, p, None, 0.5, 0.1, "l2", 0.05, True),
    "step linf": lambda p, g: OPS.step(p, g, p, None, 0.5, 0.02, "linf", 0.05, True),
    "move": lambda p, g: OPS.move(p, sharpened(p), 0.1, "l2", "straight"),
    "waterfill": lambda p, g: OPS.move(p, sharpened(p), 0.1, "l1", "waterfill"),
    "sparse": lambda p, g: OPS.move(p, sharpened(p), 0.1, "l1", "sparse"),
    "flip": lambda p, g: OPS.flip(p, None, 0.5, KEY, "swap"),
    "flip project": lambda p, g: OPS.flip(p, None, 0.5, KEY, "project"),
    "row_bits": lambda p, g: (OPS.row_bits(p, KEY, 3, 0.1, 6),),
    "quantize": lambda p, g: OPS.quantize(p, codewords_of(p.shape[1], 3), None),
    **{
        case: lambda p, g, case=case: operands.call(case, p, sharpened(p), operands.compiled)
        for case in operands.TRIED
    },
}


def sharpened(p: torch.Tensor) -> torch.Tensor:
    """A vector of the same label: p's mass pulled half-way to the label."""
    hot = torch.zeros_like(p).scatter_(1, p.argmax(1, keepdim=True), 1.0)
    return (p + hot) / 2


def rows(n: int, k: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    """Probability vectors and directions."""
    generator = torch.Generator().manual_seed(n * 7919 + k)
    p = torch.softmax(2 * torch.randn(n, k, generator=generator, dtype=torch.float64), 1)
    return p.to(dtype), torch.randn(n, k, generator=generator, dtype=torch.float64).to(dtype)


def same_bits(a: tuple[torch.Tensor, ...], b: tuple[torch.Tensor, ...]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.fixture
def threads() -> Iterator[None]:
    """Restores the thread count that a test changes."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=OPERATIONS)
def operation(request: pytest.FixtureRequest) -> Operation:
    return OPERATIONS[request.param]


@pytest.fixture(params=cpu.instruction_sets())
def instruction_set(request: pytest.FixtureRequest) -> Iterator[str]:
    """Forces each of this machine's."""
    with cpu.using(request.param):
        yield request.param


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bits_do_not_depend_on_the_thread_count(
    operation: Operation, dtype: torch.dtype, threads: None
) -> None:
    p, g = rows(2731, 97, dtype)  # enough for four threads, in shares of different size
    torch.set_num_threads(1)
    alone = operation(p, g)
    for count in (2, 3, 16):
        torch.set_num_threads(count)
        assert same_bits(operation(p, g), alone)


def test_bits_do_not_depend_on_alignment(operation: Operation, instruction_set: str) -> None:
    changed = []
    for dtype, k in itertools.product(DTYPES, (2, 3, 15, 16, 17, 100, 600)):
        p, g = rows(19, k, dtype)
        shifted = []  # one element further on in memory
        for x in (p, g):
            memory = torch.empty(x.numel() + 1, dtype=dtype)
            shifted.append(memory[1:].view_as(x).copy_(x))
        if not same_bits(operation(*shifted), operation(p, g)):
            changed.append((dtype, k))
    assert changed == []


def test_bits_do_not_depend_on_shared_memory(instruction_set: str) -> None:
    for case in table.cases("step", torch.float32, 17, "l1", rows=3):
        q, g, p, *rest = case.arguments
        assert same_bits(OPS.step(q, g, p, *rest), OPS.step(q.clone(), g, p.clone(), *rest))


def test_any_layout_is_accepted_and_not_modified(operation: Operation) -> None:
    p, g = rows(33, 21)
    expected = operation(p, g)
    transposed = p.t().contiguous().t(), g.t().contiguous().t()
    strided = p.repeat_interleave(2, 1)[:, ::2], g.repeat_interleave(3, 0)[::3]
    for layout in (transposed, strided):
        before = [x.clone() for x in layout]
        result = operation(*layout)
        assert same_bits(result, expected)
        assert all(x.is_contiguous() for x in result)
        assert same_bits(layout, tuple(before))


@pytest.mark.parametrize("k", [2, 10, 400])
def test_only_rows_with_an_invalid_label_are_refused(k: int) -> None:
    p, g = rows(20, k)
    label = torch.arange(20) % k
    right, status = OPS.step(p, g, p, label, 0.1, INF, "l1", 0.0, False)
    assert int(status) == 0
    label[3], label[18] = -1, k
    q, status = OPS.step(p, g, p, label, 0.1, INF, "l1", 0.0, False)
    others = [i for i in range(20) if i not in (3, 18)]
    assert int(status) == 2 and torch.equal(q[others], right[others])
    assert not torch.equal(q[3], right[3]) and not torch.equal(q[18], right[18])


def test_broadcast_rows_and_labels_are_accepted() -> None:
    p, g = rows(1, 12)
    label = torch.tensor([[3, 0]]).expand(5, 2)[:, 0]
    wide = OPS.project(g.expand(5, 12), p.expand(5, 12), label, INF, "l1", 0.0, False)
    single = OPS.project(g, p, torch.tensor([3]), INF, "l1", 0.0, False)
    assert torch.equal(wide[0], single[0].expand(5, 12))


@pytest.mark.parametrize("k", [2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 65, 320, 321])
@pytest.mark.parametrize("dtype", DTYPES)
def test_writes_every_entry_and_nothing_else(
    k: int, dtype: torch.dtype, instruction_set: str
) -> None:
    # More rows than fill a group of sixteen, fewer, and as many; with two broken ones and without.
    for n, bad in itertools.product((1, 5, 15, 16, 17, 33), (False, True)):
        p, g = rows(n, k, dtype)
        if bad:
            p[n // 2, 0], g[n // 3, 1] = float("nan"), INF
        guard = 64
        memory = torch.full((p.numel() + 2 * guard,), float("nan"), dtype=dtype)
        out = memory[guard:-guard].view(n, k)
        for norm, epsilon in (("l1", INF), ("l1", 0.2), ("l2", 0.1), ("linf", 0.02)):
            out.fill_(float("nan"))
            status = OPS.step_out(p, g, p, None, 0.3, epsilon, norm, 0.0, True, out)
            assert not out.isnan().any()
            assert memory[:guard].isnan().all() and memory[-guard:].isnan().all()
            assert status.item() == (len({n // 2, n // 3}) if bad else 0)


def test_empty_batches(operation: Operation) -> None:
    p, g = rows(0, 10)
    result = operation(p, g)
    assert result[0].shape[0] == 0
    if result[-1].dim() == 0:
        assert result[-1].item() == 0


def test_invalid_rows_are_counted_over_all_threads(threads: None) -> None:
    p, g = rows(4096, 64)
    p[::16, 5] = float("nan")
    g[1::32, 0] = INF
    for count in (1, 4):
        torch.set_num_threads(count)
        q, status = OPS.step(p, g, p, None, 0.1, INF, "l1", 0.0, False)
        assert status.item() == 256 + 128
        assert torch.equal(q[::16], torch.full((256, 64), 1 / 64))
        hot = torch.zeros(128, 64).scatter_(1, p[1::32].argmax(1, keepdim=True), 1.0)
        assert torch.equal(q[1::32], hot)


def test_calls_from_many_threads_at_once(operation: Operation) -> None:
    p, g = rows(256, 33)
    expected = operation(p, g)
    wrong: list[int] = []

    def serve(name: int) -> None:
        for _ in range(20):
            if not same_bits(operation(p, g), expected):
                wrong.append(name)

    workers = [threading.Thread(target=serve, args=(i,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_fork_after_use_does_not_hang() -> None:
    # The child compares in NumPy: torch's own OpenMP loops are what hangs after a fork.
    script = """
        import os
        import numpy as np
        import torch
        import mipoison

        OPS = torch.ops.mipoison
        torch.set_num_threads(4)
        p = torch.softmax(torch.randn(4096, 64), 1)
        g = torch.randn(4096, 64)
        expected, _ = OPS.step(p, g, p, None, 0.1, 0.2, "l1", 0.0, False)
        for _ in range(3):
            child = os.fork()
            if child == 0:
                q, _ = OPS.step(p, g, p, None, 0.1, 0.2, "l1", 0.0, False)
                os._exit(0 if np.array_equal(q.numpy(), expected.numpy()) else 1)
            _, status = os.waitpid(child, 0)
            assert status == 0, status
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=60)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_16_bit_pattern_widens_exactly(dtype: torch.dtype) -> None:
    bits = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)
    finite = bits[bits.isfinite()].view(-1, 2)
    # The exact row words are a hash of the float32 values.
    assert torch.equal(
        OPS.row_bits(finite, KEY, 0, 0.0, 4), OPS.row_bits(finite.float(), KEY, 0, 0.0, 4)
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_16_bit_answers_are_rounded_once_to_nearest_even(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(5)
    # Exponents from subnormal to 1, and exact ties between two neighbours.
    small = torch.rand(4000, 1, generator=generator, dtype=torch.float64)
    small = small * 2.0 ** torch.randint(-28, 0, (4000, 1), generator=generator)
    ties = (torch.arange(1, 4001, dtype=torch.float64) * 2 + 1).unsqueeze(1) * 2.0**-25
    entry = torch.cat([small.clamp(max=0.49), ties])
    exact = torch.cat([entry, 1 - entry], 1)
    for row in (exact, exact.flip(1)):
        z = row.to(dtype)
        q, status = OPS.project(z, None, None, INF, "l1", 0.0, False)
        wide, _ = OPS.project(z.double(), None, None, INF, "l1", 0.0, False)
        lower = wide.argmin(1, keepdim=True)
        assert status.item() == 0
        assert torch.equal(q.gather(1, lower), wide.gather(1, lower).to(dtype))


def test_the_widest_instruction_set_is_in_use() -> None:
    names = cpu.instruction_sets()
    assert names[-1] in ("baseline", "neon") and cpu.instruction_set() == names[0]


def test_instruction_set_can_be_forced_and_is_restored() -> None:
    before = cpu.instruction_set()
    for name in cpu.instruction_sets():
        with cpu.using(name):
            assert cpu.instruction_set() == name == mp.backends()["cpp"]
    with pytest.raises(ValueError, match=before), cpu.using("sse9"):
        pass
    assert cpu.instruction_set() == before
