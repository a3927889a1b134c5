"""Compiles the kernels that a deployment will use, so that its first request does not wait.

`python -m mipoison.kernels.warmup --k 10 1000 --dtype float32 --device cuda` runs each operation once, which
fills Triton's cache; with `--target 90` the kernels are compiled for that compute capability and nothing runs.
"""

from __future__ import annotations

import argparse
import math
from typing import Final

import torch
from mipoison.kernels import resources

from mipoison.reference.move import STYLES
from mipoison.reference.network import LANES, whole_lanes

EPSILON: Final = 0.1


def warm(variant: resources.Variant, device: torch.device, rows: int = 2) -> None:
    """Runs one operation on uniform rows on the device, as `mipoison.step` and its like would."""
    from mipoison.ops.library import TRITON

    dtype = resources.DTYPES[variant.dtype]
    p = torch.full((rows, variant.k), 1 / variant.k, dtype=dtype, device=device)
    epsilon = math.inf if variant.norm == "none" else EPSILON
    norm = "l1" if variant.norm == "none" else variant.norm
    key = torch.arange(4)
    if variant.operation == "step":
        # The defenses shrink the margin; plain calls do not. Where q is its own center it is read once.
        for shrink in (False, True):
            for start in (p, p.clone()):
                TRITON["step"](start, p, p, None, 0.1, epsilon, norm, 0.0, shrink)
    elif variant.operation == "project":
        for shrink in (False, True):
            TRITON["project"](p, p.clone(), None, epsilon, norm, 0.0, shrink)
    elif variant.operation == "move":
        for style in STYLES if norm == "l1" else ("straight",):
            TRITON["move"](p, p.clone(), EPSILON, norm, style)
    elif variant.operation == "flip":
        labels = torch.zeros(rows, dtype=torch.int64, device=device)
        for style in ("swap", "project"):
            for targets in (None, labels):
                TRITON["flip"](p, targets, 0.5, key, style)
    elif variant.operation in (*resources.NETWORKS, "advance"):
        _warm_networks(variant, p, epsilon, norm)
    elif variant.operation == "quantize":
        codewords = torch.full((variant.k, 1, variant.k), 1 / variant.k, device=device)
        for offsets in (None, torch.zeros((variant.k, 1), device=device)):
            TRITON["quantize"](p, codewords, offsets)
    else:
        for grid in (0.0, 0.1):
            TRITON["row_bits"](p, key, 0, grid, 4)


def _warm_networks(variant: resources.Variant, p: torch.Tensor, epsilon: float, norm: str) -> None:
    """The same with one network of zeros that has a lane of outputs."""
    from mipoison.ops.library import TRITON

    width = variant.width or LANES
    f = whole_lanes(2 * variant.k)
    numbers = 2 * f + 2 * f * width + 2 * width * width + 2 * width + LANES * (2 * width + 1)
    network = torch.zeros(numbers, device=p.device)
    goal = torch.zeros((len(p), LANES), device=p.device)
    if variant.operation == "recover":
        TRITON["recover"](p, network, 1, width, LANES)
        return
    for smooth in (False, True):
        if variant.operation == "pull":
            TRITON["pull"](p, goal, network, 1, width, smooth)
            continue
        for near in (None, torch.ones(len(p), device=p.device)):
            for shrink in (False, True):
                # One step is the first and the last, three have one between them.
                for steps in (1, 3):
                    around = (steps, 0.1, epsilon, norm, 0.0, shrink, smooth)
                    TRITON["perturb"](p, goal, network, 1, width, p.clone(), near, *around)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m mipoison.kernels.warmup", description=__doc__)
    parser.add_argument("--k", type=int, nargs="+", required=True, help="numbers of classes")
    parser.add_argument("--dtype", nargs="+", default=["float32"], choices=tuple(resources.DTYPES))
    parser.add_argument("--norm", nargs="+", default=list(resources.NORMS), choices=resources.NORMS)
    parser.add_argument(
        "--operation",
        nargs="+",
        default=list(resources.OPERATIONS),
        choices=resources.OPERATIONS,
    )
    parser.add_argument(
        "--width",
        type=int,
        nargs="+",
        default=list(resources.WIDTHS),
        help="of the networks' hidden layers (default: %(default)s)",
    )
    parser.add_argument("--device", default="cuda", help="where to run (default: %(default)s)")
    parser.add_argument(
        "--target", type=int, help="compile only, for this compute capability, such as 90"
    )
    given = parser.parse_args()
    if given.target is None and not torch.cuda.is_available():
        parser.error(
            f"expected a GPU for --device {given.device}, got none that PyTorch can use; "
            "pass --target 90 to compile without one"
        )
    if min(given.k) < 2:
        parser.error(f"expected --k of at least 2 classes, got {min(given.k)}")
    chosen = tuple(
        resources.variants(
            tuple(given.operation),
            tuple(given.norm),
            tuple(given.dtype),
            tuple(given.k),
            tuple(given.width),
        )
    )
    for variant in chosen:
        if given.target is None:
            warm(variant, torch.device(given.device))
        else:
            resources.compile_variant(variant, given.target)
    if given.target is None:
        torch.cuda.synchronize(given.device)
    print(f"{len(chosen)} kernels ready")


if __name__ == "__main__":
    main()
