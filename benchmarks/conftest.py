"""Compares contestants within one run: they alternate, and their medians and ratios go into `extra_info`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import summary
import torch
from rows import MIB, last_level_cache, tensor_bytes
from timing import median_seconds

import mipoison as mp

# Without --record: bytes of a tensor, and K.
FEW_BYTES = 32 * MIB
FEW_SIZES = (10, 100, 1000)
# The same of the races of whole answers: how many rows are asked at once.
FEW_ROWS = (1, 1024)
Contestants = Mapping[str, Callable[[], Any]]

# A race ends after so many seconds, with --record and without, once each contestant has run FEWEST_ROUNDS times.
LONGEST_RACE, SHORT_RACE = 8.0, 1.0
FEWEST_ROUNDS = 3


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("mipoison")
    group.addoption(
        "--tensor-bytes",
        type=int,
        help="bytes of one tensor of a throughput benchmark (default: 32 MiB; with --record four times the cache)",
    )
    group.addoption(
        "--record",
        action="store_true",
        help="all sizes, long races and large tensors, as the performance page has them: half an hour",
    )
    group.addoption(
        "--rounds", type=int, default=7, help="how often each contestant runs at most (default: 7)"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Sets what --record decides, and leaves the table of absolute times out where it is not given."""
    config.option.tensor_bytes = config.getoption("--tensor-bytes") or (
        tensor_bytes() if config.getoption("--record") else FEW_BYTES
    )
    if not config.getoption("--record"):
        config.option.benchmark_quiet = True


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without --record leaves races at other sizes out."""
    if config.getoption("--record"):
        return
    few = [item for item in items if _is_short(item.callspec.params)]
    config.hook.pytest_deselected(items=[item for item in items if item not in few])
    items[:] = few


def _is_short(parameters: Mapping[str, Any]) -> bool:
    """Whether a race is run without --record."""
    rows = parameters["n"] if "objective" in parameters else FEW_ROWS[0]
    return parameters.get("k", FEW_SIZES[0]) in FEW_SIZES and rows in FEW_ROWS


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Prints the ratios."""
    races = config._benchmarksession.benchmarks
    for line in summary.lines((one.name, one.extra_info) for one in races):
        terminalreporter.write_line(line)


def pytest_benchmark_update_machine_info(
    config: pytest.Config, machine_info: dict[str, Any]
) -> None:
    """Adds the conditions that the figures depend on, and removes what identifies the machine."""
    for private in ("node", "release"):
        machine_info.pop(private, None)
    machine_info.update(
        last_level_cache=last_level_cache(),
        tensor_bytes=config.getoption("--tensor-bytes"),
        torch=torch.__version__,
    )


@pytest.fixture(autouse=True)
def _restore_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def nbytes(request: pytest.FixtureRequest) -> int:
    """Bytes of one tensor."""
    size: int = request.config.getoption("--tensor-bytes")
    return size


@pytest.fixture
def versus(benchmark: Any, request: pytest.FixtureRequest) -> Callable[..., None]:
    """Times contestants in turn. The first is ours; the ratio of its time to each other's is stored."""

    def run(
        contestants: Contestants,
        *,
        n: int,
        threads: int = 1,
        calls: int = 1,
        rounds: int | None = None,
        rows_timed: Mapping[str, int] | None = None,
        **conditions: Any,
    ) -> None:
        """Times all contestants under the same conditions.

        Args:
            contestants: callables without arguments; ours first.
            n: rows of one call of ours; all seconds are given for this number of rows.
            threads: what torch and ours may use.
            calls: calls in one timing; 1 where a call is long.
            rounds: how often each contestant runs at most; by default the value of --rounds.
            rows_timed: for contestants that are too slow for n rows, the rows of one call; their
                seconds are scaled to n.
            **conditions: stored with the result.
        """
        torch.set_num_threads(threads)
        rows_timed = dict(rows_timed or {})
        ours, *rivals = contestants
        times: dict[str, list[float]] = {name: [] for name in rivals}

        def repeat(name: str) -> None:
            contestant = contestants[name]
            for _ in range(calls):
                contestant()

        def time_rivals() -> None:
            for name in rivals:
                start = time.perf_counter()
                repeat(name)
                times[name].append(time.perf_counter() - start)

        start = time.perf_counter()
        time_rivals()
        repeat(ours)
        longest = LONGEST_RACE if request.config.getoption("--record") else SHORT_RACE
        fit = int(longest / (time.perf_counter() - start))
        for warm_up in times.values():
            warm_up.clear()
        most = rounds or request.config.getoption("--rounds")
        # pytest-benchmark times ours right after its rivals, round by round.
        benchmark.pedantic(
            lambda: repeat(ours), setup=time_rivals, rounds=min(most, max(FEWEST_ROUNDS, fit))
        )
        if benchmark.disabled:
            return
        times[ours] = benchmark.stats.stats.data
        medians = median_seconds(times, n, rows_timed, calls)
        seconds = {name: medians[name] for name in contestants}
        benchmark.extra_info.update(
            conditions,
            n=n,
            threads=threads,
            calls=calls,
            rows_timed=rows_timed,
            device="cpu",
            instruction_set=mp.backends()["cpp"],
            seconds=seconds,
            ratios={f"{ours} / {name}": seconds[ours] / seconds[name] for name in rivals},
            torch=torch.__version__,
            triton=None,
        )

    return run
