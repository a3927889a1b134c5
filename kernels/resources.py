"""Compiles the kernels ahead of time, without a GPU, and records what they need: registers, shared memory, stack.

A kernel that has a stack spills registers; none of them may. Run
`python -m mipoison.kernels.resources --out benchmarks/results/triton-resources.json`.
"""

from __future__ import annotations

import argparse
import datetime
import json
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
import triton
from mipoison.kernels.advance import advance_kernel
from mipoison.kernels.aim import aim_kernel
from mipoison.kernels.flip import flip_kernel
from mipoison.kernels.launch import Shape, float64_shape, network_shape
from mipoison.kernels.move import move_kernel
from mipoison.kernels.network import pull_kernel, recover_kernel
from mipoison.kernels.perturb import advance_plan
from mipoison.kernels.project import plan, project_kernel
from mipoison.kernels.quantize import quantize_kernel
from mipoison.kernels.words import row_bits_kernel
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from mipoison.reference.rounding import SUM_TOLERANCE

TARGETS: Final = (80, 90, 100)
# One for each way that rows are spread over programs; the other dtypes differ in how they are read and rounded.
SIZES: Final = (10, 100, 400, 1000, 8191, 16_000, 128_000)
OTHER_SIZES: Final = (10, 1000, 16_000)
NORMS: Final = ("none", "l1", "l2", "linf")
# `perturb` is two kernels: `aim` evaluates the networks, `advance` projects.
NETWORKS: Final = ("recover", "pull", "aim")
OPERATIONS: Final = (
    *("step", "project", "move", "flip", "row_bits", "quantize"),
    *(*NETWORKS, "advance"),
)
WIDTHS: Final = (64, 128)
DTYPES: Final = {
    "float32": torch.float32,
    "float64": torch.float64,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
_NAMES: Final = {
    torch.float32: "fp32",
    torch.float64: "fp64",
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
}
_WARP: Final = 32


@dataclass(frozen=True)
class Variant:
    """One kernel as it is compiled.

    Attributes:
        operation: its name.
        norm: of the ball; "none" for no ball.
        dtype: of the rows.
        k: classes.
        width: of the networks' hidden layers; None for an operation without networks.
    """

    operation: str
    norm: str
    dtype: str
    k: int
    width: int | None = None


@dataclass(frozen=True)
class Resources:
    """What ptxas gave one kernel; a stack of zero bytes means that nothing spills."""

    registers: int
    stack: int
    shared: int
    warps: int


def variants(
    operations: tuple[str, ...] = OPERATIONS,
    norms: tuple[str, ...] = NORMS,
    dtypes: tuple[str, ...] = tuple(DTYPES),
    sizes: tuple[int, ...] = SIZES,
    widths: tuple[int, ...] = WIDTHS,
) -> Iterator[Variant]:
    """The table, each kernel once: some operations know no ball, and some know no other case."""
    own: dict[str, tuple[str, ...]] = {"move": NORMS[1:]}
    own |= dict.fromkeys(("flip", "row_bits", "quantize", *NETWORKS), NORMS[:1])
    for operation in operations:
        for norm in norms:
            if norm in own.get(operation, norms):
                for dtype in dtypes:
                    for k in sizes:
                        for width in widths if operation in NETWORKS else (None,):
                            yield Variant(operation, norm, dtype, k, width)


def _constants(variant: Variant) -> tuple[Any, Shape, dict[str, Any]]:
    """The kernel, its shape, and the arguments that are compiled in."""
    dtype, tolerance = DTYPES[variant.dtype], SUM_TOLERANCE[DTYPES[variant.dtype]]
    if variant.width is not None:
        return _network_constants(variant, network_shape(variant.k, variant.width), tolerance)
    if variant.operation == "advance":
        shape, try_float32 = advance_plan(variant.k, dtype, variant.norm)
        constants = {"TOLERANCE": tolerance, "NORM": variant.norm, "SHRINK": True, "LAST": True}
        constants["TRY_FLOAT32"] = try_float32
        return advance_kernel, shape, {**constants, **shape.constants()}
    if variant.operation in ("step", "project"):
        shape, try_float32 = plan(variant.k, dtype, variant.norm)
        constants = {
            "t": None,
            "TOLERANCE": tolerance,
            "NORM": variant.norm,
            # The default of the defenses, which costs the most.
            "SHRINK": True,
            "SAME": variant.operation == "step",
            "TRY_FLOAT32": try_float32,
            **shape.constants(),
        }
        if variant.operation == "project":
            constants["g"] = None
        return project_kernel, shape, constants
    shape = float64_shape(variant.k, variant.norm)
    if variant.operation == "move":
        constants = {"TOLERANCE": tolerance, "NORM": variant.norm}
        # In l1 the style that needs the most.
        constants["STYLE"] = "sparse" if variant.norm == "l1" else "straight"
        return move_kernel, shape, {**constants, **shape.tile()}
    if variant.operation == "flip":
        constants = {"targets": None, "TOLERANCE": tolerance, "PROJECT": True}
        return flip_kernel, shape, {**constants, **shape.tile()}
    if variant.operation == "quantize":
        constants = {"TOLERANCE": tolerance}
        return quantize_kernel, shape, {**constants, **shape.tile()}
    constants = {"COARSE": True, "WORDS": 4}
    return row_bits_kernel, shape, {**constants, **shape.tile()}


def _network_constants(
    variant: Variant, shape: Shape, tolerance: float
) -> tuple[Any, Shape, dict[str, Any]]:
    constants = {"TOLERANCE": tolerance, "W": variant.width, **shape.constants()}
    if variant.operation == "recover":
        return recover_kernel, shape, constants
    constants["SMOOTH"] = True
    if variant.operation == "pull":
        return pull_kernel, shape, constants
    return aim_kernel, shape, {**constants, "FIRST": True}


def compile_variant(variant: Variant, target: int) -> Any:
    """Compiles a variant for compute capability target (90 for 9.0), as a launch on contiguous rows would."""
    kernel, shape, constants = _constants(variant)
    element = "*" + _NAMES[DTYPES[variant.dtype]]
    types = dict.fromkeys(("q", "g", "p", "v", "center", "along", "stepped", "out"), element)
    types |= dict.fromkeys(("codewords", "offsets"), "*fp32") | {"numbers": "*i64"}
    types |= dict.fromkeys(("goal", "network", "near", "scratch", "shares", "distances"), "*fp32")
    types |= {"t": "*i64", "targets": "*i64", "labels": "*i64", "status": "*i64"}
    if variant.operation == "row_bits":
        types["out"] = "*i64"
    if variant.operation in ("recover", "pull"):
        types["out"] = "*fp32"
    if variant.operation in ("aim", "advance"):
        types |= dict.fromkeys(("labels", "refusals"), "*i32")
    types |= dict.fromkeys(("alpha", "epsilon", "margin"), "fp64") | {"inverse": "fp32"}
    types |= dict.fromkeys(("k0", "k1", "k2", "k3", "draw", "threshold"), "i64")
    signature = {
        name: "constexpr" if name in constants else types.get(name, "i32")
        for name in kernel.arg_names
    }
    # What a launch finds out about its arguments: where rows begin decides how wide they are read.
    strides = {name for name in kernel.arg_names if name.endswith("stride")}
    whole = {"k", *strides} - {"goal_stride"}
    aligned = {
        (i,): [["tt.divisibility", 16]]
        for i, name in enumerate(kernel.arg_names)
        if signature[name].startswith("*") or (name in whole and variant.k % 16 == 0)
    }
    source = ASTSource(kernel, signature, constexprs=constants, attrs=aligned)
    return triton.compile(source, target=GPUTarget("cuda", target, _WARP), options=shape.options())


def resources_of(compiled: Any, warps: int) -> Resources:
    """Reads registers, stack and shared memory off the machine code.

    Raises:
        RuntimeError: if cuobjdump cannot read it.
    """
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(compiled.asm["cubin"])
        done = subprocess.run(
            [str(tool), "--dump-resource-usage", file.name], capture_output=True, text=True
        )
    text = done.stdout + done.stderr
    found = {
        name: re.search(rf"{name}:(\d+)", text) for name in ("REG", "STACK", "SHARED", "LOCAL")
    }
    if not all(found.values()):
        raise RuntimeError(f"expected cuobjdump to report resources, got {text.strip()!r}")
    number = {name: int(match[1]) for name, match in found.items() if match}
    return Resources(number["REG"], number["STACK"] + number["LOCAL"], number["SHARED"], warps)


def measure(variant: Variant, target: int) -> Resources:
    """Compiles a variant and reads its resources."""
    return resources_of(compile_variant(variant, target), _constants(variant)[1].warps)


def _row(work: tuple[Variant, int]) -> dict[str, Any]:
    variant, target = work
    return {**asdict(variant), "target": f"sm_{target}", **asdict(measure(variant, target))}


def _place(row: dict[str, Any]) -> tuple[int, int]:
    """Where a row stands in the file."""
    return [*DTYPES].index(row["dtype"]), OPERATIONS.index(row["operation"])


def main() -> None:
    """Writes the table as JSON; exit status 1 if a kernel spills."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--target", type=int, nargs="+", default=list(TARGETS))
    parser.add_argument(
        "--k", type=int, nargs="+", help=f"default: {SIZES}, and {OTHER_SIZES} beside float32"
    )
    parser.add_argument("--dtype", nargs="+", default=list(DTYPES), choices=DTYPES)
    parser.add_argument(
        "--operation",
        nargs="+",
        default=list(OPERATIONS),
        choices=OPERATIONS,
        help="the file keeps what it has of others; default: all",
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="default: %(default)s")
    given = parser.parse_args()
    work = [
        (variant, target)
        for dtype in given.dtype
        for variant in variants(
            tuple(given.operation),
            dtypes=(dtype,),
            sizes=tuple(given.k or (SIZES if dtype == "float32" else OTHER_SIZES)),
        )
        for target in given.target
    ]
    # Compiling is what takes long, and Triton holds one core.
    with ProcessPoolExecutor(given.jobs, multiprocessing.get_context("spawn")) as pool:
        rows = list(pool.map(_row, work))
    if given.out.exists():
        before = json.loads(given.out.read_text())["rows"]
        rows = [row for row in before if row["operation"] not in given.operation] + rows
        rows.sort(key=_place)
    spilling = [row for row in rows if row["stack"] > 0]
    for row in spilling:
        print(f"spills: {row}", file=sys.stderr)
    given.out.write_text(
        json.dumps(
            {
                "date": datetime.date.today().isoformat(),
                "triton": triton.__version__,
                "torch": torch.__version__,
                "kernels": len(rows),
                "spilling": len(spilling),
                "rows": rows,
            },
            indent=1,
        )
        + "\n"
    )
    sys.exit(1 if spilling else 0)


if __name__ == "__main__":
    main()
