"""Benchmarks compare within one run: each times its rivals in turn and stores ratios beside the time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch

import mipoison as mp

ROUNDS = 5


def medians(contestants: Mapping[str, Callable[[], Any]], rounds: int = ROUNDS) -> dict[str, float]:
    """Median seconds a call, the contestants alternating so that noise meets all of them alike."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for contestant in contestants.values():
        contestant()
    for _ in range(rounds):
        for name, contestant in contestants.items():
            start = time.perf_counter()
            contestant()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def versus(benchmark):
    """Times the first contestant by pytest-benchmark and stores time ÷ each rival's in extra_info."""

    def run(contestants: Mapping[str, Callable[[], Any]], **conditions: Any) -> dict[str, float]:
        ours = next(iter(contestants))
        seconds = medians(contestants)
        ratios = {f"{ours} / {name}": seconds[ours] / seconds[name] for name in contestants}
        ratios.pop(f"{ours} / {ours}")
        benchmark.extra_info.update(
            ratios=ratios,
            conditions=conditions,
            threads=torch.get_num_threads(),
            torch=torch.__version__,
            instruction_set=mp.backends()["cpp"],
        )
        benchmark.pedantic(contestants[ours], rounds=ROUNDS, warmup_rounds=1)
        print("\n" + ", ".join(f"{name} {ratio:.3g}" for name, ratio in ratios.items()), end=" ")
        return ratios

    return run
