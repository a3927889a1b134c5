"""Ahead-of-time compilation for sm_80, sm_90 and sm_100: nothing spills. In processes without the interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=environment
    )


def spilling(path: Path, *arguments: str) -> list[dict[str, object]]:
    done = python("-m", "mipoison.kernels.resources", "--out", str(path), *arguments)
    assert path.exists(), done.stderr
    found = json.loads(path.read_text())
    assert found["kernels"] == len(found["rows"]) > 0
    return [row for row in found["rows"] if row["stack"] > 0]


def test_nothing_spills(tmp_path: Path) -> None:
    chosen = ("--dtype", "float32", "--k", "10", "--target", "90")
    assert spilling(tmp_path / "resources.json", *chosen) == []


def test_the_widest_rows_fit_into_registers() -> None:
    """They take all registers that there are: 128 for each of 512 threads."""
    program = """
from mipoison.kernels.resources import TARGETS, Variant, measure
variant = Variant("step", "none", "float32", 16_000)
print([measure(variant, target).stack for target in TARGETS])
"""
    done = python("-c", program)
    assert done.stdout == "[0, 0, 0]\n", done.stderr


@pytest.mark.full
@pytest.mark.parametrize("target", ["80", "90", "100"])
def test_nothing_spills_in_the_whole_table(tmp_path: Path, target: str) -> None:
    assert spilling(tmp_path / "resources.json", "--target", target) == []


def test_a_spill_is_seen() -> None:
    """The instrument works: a kernel with far too few registers has a stack."""
    program = """
from mipoison.kernels import launch, resources
launch.Shape.options = lambda self: {"num_warps": self.warps, "maxnreg": 40}
print(resources.measure(resources.Variant("step", "none", "float32", 10), 90).stack)
"""
    done = python("-c", program)
    assert int(done.stdout) > 0, done.stderr


def test_warmup_compiles_without_a_gpu() -> None:
    chosen = ("--k", "10", "--norm", "none", "--operation", "step", "row_bits")
    done = python("-m", "mipoison.kernels.warmup", *chosen, "--target", "90")
    assert done.returncode == 0 and done.stdout == "2 kernels ready\n", done.stderr
    done = python("-m", "mipoison.kernels.warmup", *chosen)
    assert done.returncode == 0 or "expected a GPU" in done.stderr


def test_no_kernel_is_imported_before_an_operation() -> None:
    program = (
        "import sys, mipoison, mipoison.kernels\n"
        "print(sorted(x for x in sys.modules if x.startswith('mipoison.kernels.')))"
    )
    done = python("-c", program)
    assert done.stdout == "[]\n", done.stderr
