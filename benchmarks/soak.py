"""Searches for violated guarantees: random rows through the row operations by every instruction set.

    python benchmarks/soak.py --rows 10_000_000 --seed 7
    python benchmarks/soak.py --replay runs/soak/violation.safetensors

Every row is checked in float64, against the renormalised p. It must not be refused, must be finite and not negative,
and its label must be strictly the largest entry, by its margin; |Σq − 1| ≤ 1e-6; ‖q − p‖ ≤ ε + 2e-7.
"""

from __future__ import annotations

import argparse
import json
import math
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import torch
from rows import ORDER
from soak_calls import CALLS, Call, mixed_rows
from torch import Tensor

from mipoison import cpu
from mipoison.reference.rounding import at, put, renormalise, row_margin

SMALLEST, LARGEST = 2, 1000
# Batches are small, so that many settings are tried on many rows.
BATCH_ROWS, BATCH_ELEMENTS = 4096, 2**19
# The largest value of each figure that keeps its guarantee.
ALLOWED = {
    "refused": 0.0,
    "not finite": 0.0,
    "negative": 0.0,
    "margin": 1e-12,
    "sum": 1e-6,
    "ball": 2e-7,
}
SAVED_ROWS = 16


def figures(call: Call, results: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """A figure a row for each guarantee, float64 [n], to compare with ALLOWED.

    "tied" is 1 where the label is not strictly the largest entry.
    """
    promise, status = call.promise, results[-1]
    finite = torch.isfinite(results[0]).all(1)
    q = torch.where(finite[:, None], results[0], 0.0).to(torch.float64)
    label = results[1] if promise["label"] is None else call.tensors[promise["label"]]
    lead = at(q, label) - put(q, label, -torch.inf).amax(1)
    found = {
        "refused": status.to(torch.float64).expand(len(q)),
        "not finite": (~finite).to(torch.float64),
        "negative": -q.amin(1),
        "tied": (lead <= 0).to(torch.float64),
        "sum": (q.sum(1) - 1).abs(),
    }
    center = torch.zeros_like(q)
    if promise["center"] is not None:
        center = renormalise(call.tensors[promise["center"]], finite | True)
        if not math.isinf(promise["epsilon"]):
            length = torch.linalg.vector_norm(q - center, ORDER[promise["norm"]], dim=1)
            found["ball"] = length - promise["epsilon"]
    if promise.get("margin"):
        found["margin"] = row_margin(center, label, promise["margin"], promise["shrink"]) - lead
    return found


def violations(found: dict[str, Tensor]) -> Tensor:
    """Rows that violate a guarantee, bool [n]."""
    return torch.stack([~(x <= ALLOWED.get(name, 0.0)) for name, x in found.items()]).any(0)


class Tally:
    """Counts rows and keeps the worst figures, by operation and instruction set."""

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}
        self.worst: dict[str, dict[str, float]] = {}

    def add(self, name: str, found: dict[str, Tensor]) -> None:
        """Adds the figures of one call."""
        self.rows[name] = self.rows.get(name, 0) + len(found["sum"])
        worst = self.worst.setdefault(name, {})
        for what, x in found.items():
            worst[what] = max(worst.get(what, -math.inf), float(x.max()))

    def lines(self) -> list[str]:
        """One line for each operation and instruction set."""
        return [
            f"{name:20} {self.rows[name]:>12,} rows  "
            + "  ".join(f"{what} {value:.2g}" for what, value in sorted(worst.items()))
            for name, worst in self.worst.items()
        ]


def save_violation(call: Call, bad: Tensor, path: Path, instruction_set: str, threads: int) -> Path:
    """Saves the violating rows, or the whole call where these rows alone do not reproduce the violation."""
    few = call.only(bad.nonzero().squeeze(1)[:SAVED_ROWS])
    alone = violations(figures(few, few.run(instruction_set, threads))).any()
    path.parent.mkdir(parents=True, exist_ok=True)
    (few if alone else call).save(path, instruction_set=instruction_set, threads=threads)
    return path


def soak(rows: int, seed: int, sets: Sequence[str], out: Path) -> dict[str, Any]:
    """Sends this many rows through every operation by every instruction set; stops at the first violation."""
    random, tally, start = Random(seed), Tally(), time.perf_counter()
    done = batches = 0
    violation = None
    while done < rows and violation is None:
        k = round(math.exp(random.uniform(math.log(SMALLEST), math.log(LARGEST))))
        n = min(BATCH_ROWS, BATCH_ELEMENTS // k, rows - done)
        p, threads = mixed_rows(random, n, k), random.choice([1, 2])
        for operation, make in CALLS.items():
            call = make(random, p)
            for name in sets:
                found = figures(call, call.run(name, threads))
                tally.add(f"{operation} {name}", found)
                bad = violations(found)
                if violation is None and bool(bad.any()):
                    path = out / f"violation-{seed}-{batches}-{operation}-{name}.safetensors"
                    violation = str(save_violation(call, bad, path, name, threads))
        if done * 10 // rows != (done + n) * 10 // rows:
            print(f"{done + n:,} rows, {time.perf_counter() - start:.0f} s", flush=True)
        done, batches = done + n, batches + 1
    return {
        "seed": seed,
        "rows": done,
        "batches": batches,
        "classes": [SMALLEST, LARGEST],
        "seconds": round(time.perf_counter() - start, 1),
        "instruction_sets": list(sets),
        "torch": torch.__version__,
        "rows_checked": tally.rows,
        "worst": tally.worst,
        "violation": violation,
        "lines": tally.lines(),
    }


def replay(path: Path) -> int:
    """Runs a saved call again and prints its figures. Returns 1 if it still violates a guarantee, else 0."""
    call, where = Call.load(path)
    found = figures(call, call.run(where["instruction_set"], where["threads"]))
    print(f"{call.operation} {call.arguments} by {where}, promising {call.promise}")
    for name, x in found.items():
        print(f"{name:12} worst {float(x.max()):.6g}, allowed {ALLOWED.get(name, 0.0):g}")
    return int(violations(found).any())


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command. Returns 1 if a guarantee was violated, else 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000, help="rows (default: 10 million)")
    parser.add_argument("--seed", type=int, help="of everything; drawn and printed by default")
    parser.add_argument("--out", type=Path, default=Path("runs/soak"), help="where files go")
    parser.add_argument("--replay", type=Path, help="a saved violation to run again")
    options = parser.parse_args(arguments)
    if options.replay:
        return replay(options.replay)
    seed = secrets.randbits(32) if options.seed is None else options.seed
    sets = cpu.instruction_sets()
    # The operators set their own number of threads. The checks are too small to gain from more than one.
    torch.set_num_threads(1)
    print(f"seed {seed}, {options.rows:,} rows, {', '.join(sets)}", flush=True)
    summary = soak(options.rows, seed, sets, options.out)
    print(*summary.pop("lines"), sep="\n")
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    if summary["violation"]:
        print(f"A guarantee broke; run it again with --replay {summary['violation']}")
        return 1
    print(f"{summary['rows']:,} rows in {summary['seconds']} s, no guarantee broken")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
