"""Ahead-of-time compilation for sm_80, sm_90 and sm_100: nothing spills. In processes without the interpreter."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import fresh
import pytest
from later import later


def python(program: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    return fresh.run(program, env=environment, timeout=600)


def module(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`python -m name arguments`."""
    start = f"import runpy, sys; sys.argv[1:] = {list(arguments)}"
    return python(f"{start}; runpy.run_module({name!r}, run_name='__main__', alter_sys=True)")


def test_nothing_spills() -> None:
    """One case of every kernel, among them the l1 ball, which is the default; the others are the whole table's."""
    program = """
from mipoison.kernels.resources import measure, variants
operations = "step", "move", "flip", "row_bits", "quantize", "pull", "advance"
chosen = variants(operations, ("none", "l1"), ("float32",), (10,), (64,))
print(*{variant.operation: measure(variant, 90).stack for variant in chosen}.items())
"""
    done = python(program)
    operations = ("step", "move", "flip", "row_bits", "quantize", "pull", "advance")
    assert done.stdout.strip() == " ".join(f"('{name}', 0)" for name in operations), done.stderr


@pytest.mark.full
@pytest.mark.parametrize("target", [80, 90, 100])
def test_networks_fit_into_registers(target: int) -> None:
    """Widths that are powers of two and others, with rows that begin at multiples of 16 entries and others."""
    program = f"""
from mipoison.kernels.resources import measure, variants
networks = variants(("recover", "pull", "aim"), ("none",), ("float32",), (10, 100, 128), (32, 64, 96, 128, 256))
print([variant for variant in networks if measure(variant, {target}).stack > 0])
steps = variants(("advance",), ("none", "l1"), ("float32",), (10, 100, 128))
print([variant for variant in steps if measure(variant, {target}).stack > 0])
"""
    done = python(program)
    assert done.stdout == "[]\n[]\n", done.stdout + done.stderr


@pytest.mark.parametrize("target", [*later(80), 90, *later(100)])
def test_the_widest_rows_fit_into_registers(target: int) -> None:
    """They take all registers that there are: 128 for each of 512 threads."""
    program = f"""
from mipoison.kernels.resources import Variant, measure
print(measure(Variant("step", "none", "float32", 16_000), {target}).stack)
"""
    done = python(program)
    assert done.stdout == "0\n", done.stderr


@pytest.mark.full
@pytest.mark.parametrize("target", ["80", "90", "100"])
def test_nothing_spills_in_the_whole_table(tmp_path: Path, target: str) -> None:
    path = tmp_path / "resources.json"
    done = module("mipoison.kernels.resources", "--out", str(path), "--target", target)
    assert path.exists(), done.stderr
    found = json.loads(path.read_text())
    assert found["kernels"] == len(found["rows"]) > 0
    assert [row for row in found["rows"] if row["stack"] > 0] == []


def test_a_spill_is_seen() -> None:
    """The instrument works: a kernel with far too few registers has a stack."""
    program = """
from mipoison.kernels import launch, resources
launch.Shape.options = lambda self: {"num_warps": self.warps, "maxnreg": 40}
print(resources.measure(resources.Variant("step", "none", "float32", 10), 90).stack)
"""
    done = python(program)
    assert int(done.stdout) > 0, done.stderr


def test_warmup_compiles_without_a_gpu() -> None:
    chosen = ("--k", "10", "--norm", "none", "--operation", "step", "row_bits")
    done = module("mipoison.kernels.warmup", *chosen, "--target", "90")
    assert done.returncode == 0 and done.stdout == "2 kernels ready\n", done.stderr
    done = module("mipoison.kernels.warmup", *chosen)
    assert done.returncode == 0 or "expected a GPU" in done.stderr


def test_no_kernel_is_imported_before_an_operation() -> None:
    program = (
        "import sys, mipoison, mipoison.kernels\n"
        "print(sorted(x for x in sys.modules if x.startswith('mipoison.kernels.')))"
    )
    done = python(program)
    assert done.stdout == "[]\n", done.stderr
