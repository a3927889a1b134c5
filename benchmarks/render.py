"""Renders committed runs as the tables and the picture of docs/performance.md.

    python benchmarks/render.py benchmarks/results/cpu.json [gpu.json ...]

Where several files of one processor hold the same measurement, the last file counts.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

import tables
from measurements import Measurement, Run, read

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/performance.md"
BEGIN = "<!-- Written by benchmarks/render.py: do not edit. -->\n"
END = "<!-- Written by hand from here on. -->\n"
PICTURE = "performance.png"


def provenance(runs: Sequence[Run]) -> str:
    """The machine and the versions behind each file, as a list."""
    lines = []
    for run in runs:
        one, machine = run.measurements[0], run.machine
        cpu = machine.get("cpu", {})
        if run.device == "cpu":
            on = (
                f"{cpu.get('brand_raw', 'an unnamed processor')}, {cpu.get('count', '?')} cores, "
                f"last-level cache {machine['last_level_cache'] / 2**20:g} MiB, "
                f"{machine['tensor_bytes'] / 2**20:.3g} MiB a tensor; "
                f"{one.instruction_set} kernels"
            )
        else:
            on = f"{run.device}, triton {one.triton}"
        lines.append(
            f"- `benchmarks/results/{run.name}`: {run.date}, {on}; torch {one.torch}, "
            f"Python {machine.get('python_version', '?')}, commit {run.commit}.\n"
        )
    return "".join(lines)


def sections(parts: Sequence[tuple[str, str]]) -> str:
    """Headings with their tables; empty tables are left out."""
    return "".join(f"### {head}\n\n{body}\n" for head, body in parts if body)


def on_cpu(measurements: Sequence[Measurement]) -> str:
    """The tables of the CPU."""
    judge = tables.Judge()
    parts = [
        ("`step`, float32, one thread", tables.steps(measurements, judge)),
        ("Other balls, two threads and other algorithms", tables.others(measurements, judge)),
        ("Other dtypes, one thread", tables.dtypes(measurements)),
        ("Other operations, float32, one thread, new outputs", tables.operations(measurements)),
        ("Codebooks, float32, one thread", tables.codebooks(measurements, judge)),
        ("Whole answers, float32, K = 10, one thread", tables.defenses(measurements)),
        ("Few rows, float32, µs a call", tables.latency(measurements, judge)),
    ]
    return judge.summary() + sections(parts)


def on_gpu(measurements: Sequence[Measurement]) -> str:
    """The tables of one GPU."""
    judge = tables.Judge()
    parts = [
        ("Throughput", tables.on_gpu(measurements, judge)),
        ("Few rows, µs a call", tables.latency(measurements, judge)),
    ]
    return judge.summary() + sections(parts)


def by_device(runs: Sequence[Run]) -> dict[str, list[Measurement]]:
    """Groups the measurements by GPU or processor, the processors first: races of two machines do not compare."""
    grouped: dict[str, list[Measurement]] = {}
    for run in runs:
        brand = run.machine.get("cpu", {}).get("brand_raw", "an unnamed processor")
        for one in run.measurements:
            grouped.setdefault(brand if one.device == "cpu" else one.device, []).append(one)
    return dict(sorted(grouped.items(), key=lambda item: item[1][0].device != "cpu"))


def block(runs: Sequence[Run]) -> str:
    """The generated part of the page."""
    text = provenance(runs) + "\n" if runs else ""
    if runs:
        text += f"![Achieved bandwidth against K, one line for each ball]({PICTURE})\n\n"
    devices = by_device(runs).items()
    cpus = [
        f"## On a CPU: {name}\n\n{on_cpu(found)}"
        for name, found in devices
        if found[0].device == "cpu"
    ]
    gpus = [f"{name}. {on_gpu(found)}" for name, found in devices if found[0].device != "cpu"]
    text += "".join(cpus) or "## On a CPU\n\nNot yet measured.\n\n"
    return text + "## On a GPU\n\n" + ("".join(gpus) or "Not yet measured on a GPU.\n\n")


def fill(page: str, runs: Sequence[Run]) -> str:
    """The page with its generated part replaced."""
    between = re.compile(f"({re.escape(BEGIN)}).*?({re.escape(END)})", re.DOTALL)
    filled, count = between.subn(lambda found: f"{found[1]}\n{block(runs)}{found[2]}", page)
    if count != 1:
        raise ValueError(f"expected one generated part in the page, got {count}; see BEGIN and END")
    return filled


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, nargs="+", help="JSON files of benchmark runs")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page to fill")
    options = parser.parse_args(arguments)
    runs = [read(path) for path in options.results]
    options.page.write_text(fill(options.page.read_text(), runs))
    # Only the plot needs matplotlib.
    from bandwidth import draw

    draw(by_device(runs), options.page.parent / PICTURE)


if __name__ == "__main__":
    main()
