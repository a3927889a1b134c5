"""Times `step` on a GPU against torch.add and torch.softmax on the same bytes, and the latency of a captured call.

Run `pytest benchmarks/bench_gpu.py --benchmark-only --benchmark-json FILE`. All cases are skipped where PyTorch sees no
GPU. Every case is compared with the compiled CPU kernels before it is timed. Times are medians of CUDA events.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from mipoison.ops.library import CPP, TRITON

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a GPU that PyTorch can use"
)

ALPHA = 0.1
SIZES = (2, 10, 30, 100, 200, 400, 1000, 4096, 8192, 16_384, 128_000)
# With α = 0.1 nearly every softmax row reaches these radii.
EPSILONS = {"none": math.inf, "l1": 0.05, "l2": 0.03, "linf": 0.01}
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
TOLERANCE = {torch.float32: 5e-7, torch.float16: 2.0**-10, torch.bfloat16: 2.0**-7}
# Bytes of one tensor of a throughput case, far more than any L2 cache. Cases with a ball are slower and take a quarter.
TENSOR_BYTES = 1 << 30
ROUNDS = 9
CHECKED_ROWS = 64
# About a millisecond of waiting: longer than Python needs to launch one call or to replay a graph a hundred times.
LEAD_CYCLES = 2_000_000
Call = Callable[[], Any]


def rows(n: int, k: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Softmax rows of Gaussian logits and Gaussian directions, [n, k]."""
    generator = torch.Generator("cuda").manual_seed(0)
    logits = torch.randn(n, k, generator=generator, device="cuda", dtype=dtype)
    p = torch.softmax(logits, 1)
    return p, logits.normal_(generator=generator)


def seconds(call: Call, rounds: int = ROUNDS) -> float:
    """Median seconds of a call on the device. The device waits until the call is queued, so launches are not timed."""
    call()
    times = []
    for _ in range(rounds):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda._sleep(LEAD_CYCLES)
        start.record()
        call()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
    return statistics.median(times)


def arguments(p: Tensor, g: Tensor, norm: str) -> tuple[Any, ...]:
    known = "l1" if norm == "none" else norm
    return (p, g, p, None, ALPHA, EPSILONS[norm], known, 0.0, True)


def check_and_share_touching(p: Tensor, g: Tensor, norm: str) -> float | None:
    """Compares `step` with the CPU kernels. Returns the share of rows on the ball's border; None without a ball."""
    few = max(1, min(CHECKED_ROWS, 1_000_000 // p.shape[1], len(p)))
    q, status = TRITON["step"](*arguments(p[:few], g[:few], norm))
    exact, refused = CPP["step"](*arguments(p[:few].cpu(), g[:few].cpu(), norm))
    assert int(status) == int(refused)
    assert float((q.cpu().double() - exact.double()).abs().max()) <= TOLERANCE[p.dtype]
    if norm == "none":
        return None
    order = {"l1": 1.0, "l2": 2.0, "linf": math.inf}[norm]
    length = torch.linalg.vector_norm(q.double() - p[:few].double(), order, dim=1)
    return float((length > 0.98 * EPSILONS[norm]).double().mean())


def record(
    benchmark: Any, p: Tensor, norm: str, group: str, found: dict[str, float], **more: Any
) -> None:
    """Stores the conditions and figures of one case in the form that all suites share."""
    import triton

    n, k = p.shape
    ratios = {f"step / {name}": found["step"] / value for name, value in found.items()}
    ratios.pop("step / step")
    moved = 3 * p.numel() * p.element_size()
    benchmark.extra_info.update(
        operation="step",
        k=k,
        n=n,
        dtype=str(p.dtype).removeprefix("torch."),
        norm=norm,
        alpha=ALPHA,
        epsilon=None if norm == "none" else EPSILONS[norm],
        threads=None,
        device=torch.cuda.get_device_name(),
        instruction_set="triton",
        seconds=found,
        ratios=ratios,
        bytes=moved,
        terabytes_per_second=moved / found["step"] / 1e12,
        torch=torch.__version__,
        triton=triton.__version__,
        group=group,
        **more,
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("norm", EPSILONS)
@pytest.mark.parametrize("k", SIZES)
def test_throughput(benchmark: Any, k: int, norm: str, dtype: str) -> None:
    if norm != "none" and dtype != "float32" and k not in (10, 1000):
        pytest.skip(
            "16-bit cases with a ball run at K = 10 and 1000 only, to end within ten minutes"
        )
    kind = DTYPES[dtype]
    size = TENSOR_BYTES if norm == "none" else TENSOR_BYTES // 4
    p, g = rows(size // (k * kind.itemsize), k, kind)
    touching = check_and_share_touching(p, g, norm)
    out = torch.empty_like(p)

    def step() -> None:
        TRITON["step"](*arguments(p, g, norm), out)

    found = {
        "step": seconds(step),
        "add": seconds(lambda: torch.add(p, g, out=out)),
        "softmax": seconds(lambda: torch.softmax(g, 1, out=out)),
        "copy": seconds(lambda: out.copy_(p)),
    }
    copied = 2 * p.numel() * p.element_size() / found["copy"] / 1e12
    record(
        benchmark,
        p,
        norm,
        "throughput",
        found,
        touching=touching,
        copy_terabytes_per_second=copied,
    )

    def timed() -> None:
        step()
        torch.cuda.synchronize()

    benchmark.pedantic(timed, rounds=3, warmup_rounds=1)
    print(
        "\n" + ", ".join(f"{name} {1e3 * value:.3f} ms" for name, value in found.items()), end=" "
    )


@pytest.mark.parametrize("norm", ["none", "l1"])
@pytest.mark.parametrize("n", [1, 8, 32, 128, 1024])
def test_latency_of_a_captured_call(benchmark: Any, n: int, norm: str) -> None:
    p, g = rows(n, 1000, torch.float32)
    touching = check_and_share_touching(p, g, norm)
    out = torch.empty_like(p)
    calls: dict[str, Call] = {
        "step": lambda: TRITON["step"](*arguments(p, g, norm), out),
        "add": lambda: torch.add(p, g, out=out),
        "softmax": lambda: torch.softmax(g, 1, out=out),
    }
    found, graphs = {}, {}
    for name, call in calls.items():
        call()
        graphs[name] = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graphs[name]):
            call()
        # One replay is shorter than the resolution of CUDA events.
        found[name] = seconds(lambda: [graphs[name].replay() for _ in range(100)]) / 100  # noqa: B023
    record(benchmark, p, norm, "latency", found, touching=touching)

    def timed() -> None:
        graphs["step"].replay()
        torch.cuda.synchronize()

    benchmark.pedantic(timed, rounds=20, warmup_rounds=2)
