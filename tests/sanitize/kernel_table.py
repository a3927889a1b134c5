"""The kernel table, whole rows and broken ones, by every instruction set: what `make sanitize` watches beside the fuzz.

Run as `python tests/sanitize/kernel_table.py --seconds 120`: cells in random order, as many as there is time for.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from random import Random

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import table

from mipoison import cpu


def main() -> None:
    """Runs cells of the table until the time is up, or all are done."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    end, done = time.monotonic() + options.seconds, 0
    cells = list(table.TABLE)
    Random(options.seed).shuffle(cells)
    for operation, dtype, k, norm in cells:
        if time.monotonic() > end:
            break
        for case in table.cases(operation, dtype, k, norm, rows=3 if k < 100 else 1, every=False):
            for each in (case, table.spoil(case)):
                for threads, instruction_set in enumerate(cpu.instruction_sets(), start=1):
                    torch.set_num_threads(threads)
                    with cpu.using(instruction_set):
                        results = getattr(torch.ops.mipoison, operation)(*each.arguments)
                    table.assert_kept(each, results)
        done += 1
    print(f"{done} of {len(cells)} cells")


if __name__ == "__main__":
    main()
