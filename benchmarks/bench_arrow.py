"""Rows a second a core of defended Parquet files, beside reading and writing them alone.

    PYTHONPATH=tests python benchmarks/bench_arrow.py

Each contestant takes its turn in every round, on one thread. Seconds are those of the processor, so that neither other
processes nor the disk count. Prints the table of docs/guides/big-batches.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import short_fits
import torch
from worlds import world

import mipoison as mp
from mipoison import nn
from mipoison.defenses import Defense, LaplaceNoise
from mipoison.defenses.lpa import game
from mipoison.integrations.arrow import defend_parquet

# K, rows, rows of a row group, and rows that the defenses are fitted on.
SIZES = ((10, 400_000, 65_536, 400), (1000, 20_000, 4096, 2500))


def defenses(k: int, rows: int) -> dict[str, Defense]:
    """The defenses that are measured, fitted on random rows; shortly, which does not change the time of an answer."""
    p, x = world(rows, k, 16, seed=7)
    with short_fits.chosen(True):
        fitted = {
            objective: mp.LPA.fit(p, x, objective=objective, budget=0.05, epsilon=0.2, key=3)
            for objective in ("generator", "equilibrium")
        }
    return {**fitted, "Laplace noise": LaplaceNoise(scale=0.05 / k, key=3)}


def write(path: Path, p: torch.Tensor, group: int) -> None:
    """A file of vectors and a column of ids."""
    vectors = pa.FixedSizeListArray.from_arrays(p.reshape(-1).numpy(), p.shape[1])
    table = pa.table({"id": pa.array(range(len(p))), "p": vectors})
    pq.write_table(table, path, row_group_size=group)


def copy(source: Path, out: Path) -> None:
    """Reads a file and writes it, group by group."""
    file = pq.ParquetFile(source)
    with pq.ParquetWriter(out, file.schema_arrow) as writer:
        for group in range(file.num_row_groups):
            writer.write_table(file.read_row_group(group, use_threads=False))


def medians(contestants: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median processor seconds of each, all of which alternate; the first round does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds + 1):
        for name, call in contestants.items():
            begun = time.process_time()
            call()
            seconds[name].append(time.process_time() - begun)
    return {name: statistics.median(found[1:]) for name, found in seconds.items()}


def measure(k: int, n: int, group: int, fitted: int, rounds: int, folder: Path) -> list[str]:
    """Rows of the table for one K."""
    p, _ = world(n, k, seed=8)
    source, out = folder / "in.parquet", folder / "out.parquet"
    write(source, p, group)
    contestants: dict[str, Callable[[], object]] = {"copy": lambda: copy(source, out)}

    def defended(defense: Defense) -> None:
        out.unlink()
        defend_parquet(source, out, defense)

    for name, defense in defenses(k, fitted).items():
        contestants[name] = lambda defense=defense: defended(defense)
        contestants[f"{name} in memory"] = lambda defense=defense: defense(p)
    found = medians(contestants, rounds)
    rates = {name: f"{float(f'{n / seconds:.2g}'):,.0f}" for name, seconds in found.items()}
    names = [name for name in found if f"{name} in memory" in found]
    return [
        f"| {k} | {name} | {rates[name]} | {rates[f'{name} in memory']} | {rates['copy']} |"
        for name in names
    ]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--share", type=float, default=1.0, help="of the rows")
    given = parser.parse_args()
    short_fits.install("train", nn, game)
    torch.set_num_threads(1)
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores; torch {torch.__version__}, ",
        end="",
    )
    print(f"pyarrow {pa.__version__}; {mp.backends()}\n")
    print("| K | defense | `mipoison defend` | the defense in memory | Parquet read and written |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for k, n, group, fitted in SIZES:
            rows = round(n * given.share)
            lines = measure(k, rows, group, fitted, given.rounds, Path(folder))
            print(*lines, sep="\n", flush=True)


if __name__ == "__main__":
    main()
