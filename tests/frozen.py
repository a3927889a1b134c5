"""Digests of float32 answers and of a run's numbers, to see that a change of the code changes none of them.

    PYTHONPATH=tests python tests/frozen.py    # writes tests/frozen.json anew: for a change that is meant to
    PYTHONPATH=tests python tests/frozen.py --operations    # tells the digests of the operations, a line each

Digests of one processor say nothing about another, whose instructions may round otherwise. Each has an entry, and
`test_frozen.py` compares with that of the processor at hand.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import table
import torch
from distributions import draw
from torch import Tensor

from mipoison import cpu

FILE = Path(__file__).parent / "frozen.json"
SIZES = (2, 9, 17, 100, 321)
# What is measured with a clock, or says where it was.
TIMES = {"cost", "seconds", "environment"}
# What was measured later than the first digest.
ADDED = {"certificate"}


def machine() -> str:
    """What the bits of torch's results depend on."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0]
    lines = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    processor = {name.strip(): value.strip() for name, value in lines}
    names = ("model name", "cpu family", "model", "stepping", "cache size")
    told = ", ".join(processor.get(name, "") for name in names)
    flags = hashlib.sha256(processor.get("flags", "").encode()).hexdigest()[:8]
    return f"{told}, flags {flags}, {cpu.instruction_set()}, torch {torch.__version__}"


def digest(tensors: Iterable[Tensor]) -> str:
    """A short hash of the bits of all of them."""
    hashed = hashlib.sha256()
    for tensor in tensors:
        hashed.update(tensor.contiguous().numpy().tobytes())
    return hashed.hexdigest()[:16]


def operations() -> dict[str, str]:
    """Every operation on float32 rows, by instruction set, operation, classes and norm."""
    found = {}
    for name in cpu.instruction_sets():
        with cpu.using(name):
            for operation, norms in table.NORMS.items():
                for k in SIZES:
                    for norm in norms:
                        rows = [
                            result
                            for case in table.cases(operation, torch.float32, k, norm, rows=3)
                            for result in getattr(torch.ops.mipoison, operation)(*case.arguments)
                        ]
                        found[f"{name} {operation} {k} {norm}"] = digest(rows)
    return found


def defenses(fitted: Mapping[str, Callable[[Tensor], Tensor]]) -> dict[str, str]:
    """Every fitted defense on the same rows."""
    p = draw("plain", 100, 10, seed=5).float()
    return {f"defense {name}": digest([defense(p)]) for name, defense in fitted.items()}


def numbers(value: Any) -> Iterator[float]:
    """All numbers of a JSON value, whatever their names are, but for times."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key not in TIMES | ADDED:
                yield from numbers(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from numbers(inner)
    elif isinstance(value, (int, float)):
        yield float(value)


def run_digests(folder: Path) -> dict[str, str]:
    """A run's numbers and images, in an order that does not depend on their names."""
    results = json.loads((folder / "results.json").read_text())
    found = sorted(repr(number) for cell in results["cells"] for number in numbers(cell))
    with np.load(folder / "reconstructions.npz") as arrays:
        images = sorted(digest([torch.from_numpy(arrays[name])]) for name in arrays.files)
    return {
        "run numbers": hashlib.sha256("\n".join(found).encode()).hexdigest()[:16],
        "run images": hashlib.sha256("\n".join(images).encode()).hexdigest()[:16],
    }


def write() -> None:
    """Writes the entry of this processor."""
    from fitted import fit_all
    from tiny import TINY

    from mipoison.eval.run.experiment import run

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        run(TINY, Path(folder) / "run")
        found = operations() | defenses(fit_all()) | run_digests(Path(folder) / "run")
    known = json.loads(FILE.read_text()) if FILE.exists() else {}
    known[machine()] = found
    FILE.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    if sys.argv[1:] == ["--operations"]:
        torch.set_num_threads(1)
        print("\n".join(f"{name} {told}" for name, told in operations().items()))
    else:
        write()
