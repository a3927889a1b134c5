"""What fresh rows spend of the budget that "equilibrium" and "generator" were fitted for, as a Markdown table.

    python studies/budgets.py [--seeds SEED ...] [--lfw FOLDER]

Rows are the softmax of (x − ½)W/2 for uniform inputs x of 64 entries and a normal W: a few labels of many classes
occur often, and many never. The budget is 0.1, rows are fresh, one thread. FOLDER holds faces of LFW and their logits
by a classifier, see `certified.lfw`. A quarter of an hour for two seeds; decision 18 has a table.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

import mipoison as mp

BUDGET: Final = 0.1
FRESH: Final = 3000
# Classes and rows of a fit.
SIZES: Final = ((10, 1200), (40, 900), (100, 300), (100, 1000), (100, 2000), (1000, 2000))
OBJECTIVES: Final = ("equilibrium", "generator")
Pairs = tuple[Tensor, Tensor]


def synthetic(classes: int, rows: int, seed: int) -> Pairs:
    """Rows and the inputs behind them."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(64, classes, generator=generator)
    x = torch.rand(rows, 64, generator=generator)
    return torch.softmax((x - 0.5) @ mixing / 2, 1), x


def faces(folder: Path, rows: int, seed: int) -> Pairs:
    """Faces of LFW that are not private, and an ImageNet classifier's vectors, in a random order."""
    logits = np.load(folder / "lfw-imagenet-logits.npz")["logits"]
    with np.load(folder / "lfw-faces.npz") as held:
        open_, pixels = np.flatnonzero(~held["private"]), held["x"]
    order = np.random.default_rng(seed).permutation(open_)[:rows]
    p = torch.softmax(torch.from_numpy(logits[order].astype(np.float32)), 1)
    return p, torch.from_numpy(pixels[order].astype(np.float32)) / 255


def settings(lfw: Path | None) -> Iterator[tuple[str, int, Callable[[int, int], Pairs]]]:
    """What each setting is called, the rows of a fit, and what makes rows of a seed."""
    for classes, rows in SIZES:
        yield (
            f"{classes} classes, {rows} rows",
            rows,
            lambda n, seed, k=classes: synthetic(k, n, seed),
        )
    if lfw is not None:
        yield "ImageNet vectors of faces, 2000 rows", 2000, lambda n, seed: faces(lfw, n, seed)


def measured(make: Callable[[int, int], Pairs], rows: int, objective: str, seed: int) -> str:
    """The share of the budget that fresh rows spend, what the fit expects, and its seconds."""
    p, x = make(rows + FRESH, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        start = time.perf_counter()
        defense = mp.LPA.fit(
            p[:rows], x[:rows], objective=objective, budget=BUDGET, key=seed, seed=seed
        )
        seconds = time.perf_counter() - start
    spent = float((defense(p[rows:]) - p[rows:]).abs().sum(1).mean())
    return f"{spent / BUDGET:.2f} ({(defense.realised or 0.0) / BUDGET:.2f}; {seconds:.0f} s)"


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[120, 121], help="one fit each")
    parser.add_argument("--lfw", type=Path, help="a folder with faces of LFW and their logits")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(
        "| rows | objective | fresh rows spend, in budgets (expected; seconds of the fit) |\n|---|---|---|"
    )
    for name, rows, make in settings(options.lfw):
        for objective in OBJECTIVES:
            found = [measured(make, rows, objective, seed) for seed in options.seeds]
            print(f"| {name} | {objective} | {', '.join(found)} |", flush=True)


if __name__ == "__main__":
    main()
