"""Importing the package a second time in a process, and from a folder that holds no whole package."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from fresh import run
from later import unless

ROOT = Path(__file__).resolve().parents[1]
START = """
import gc, importlib, sys, torch
import mipoison as mp
p = torch.softmax(torch.randn(40, 10), 1)
def answers(mp):
    defense = mp.LPA.fit(p, torch.rand(40, 3, generator=torch.Generator().manual_seed(0)), objective="direction", key=1)
    z = p.clone().requires_grad_()
    grad, = torch.autograd.grad(mp.project(2 * z).square().sum(), z)
    keyless = mp.row_bits(p), mp.flip(p, rate=0.5)[0], mp.lpa(p)
    return [defense(p), mp.flip(p, rate=0.5, key=1)[0], mp.project(2 * p, backend="reference"), grad, *keyless]
before = answers(mp)
"""
END = """
after = answers(mp)
print(all(map(torch.equal, before, after)))
"""


AGAIN = {
    "all modules": """
for name in [name for name in sys.modules if name.partition(".")[0] == "mipoison"]:
    del sys.modules[name]
import mipoison as mp
""",
    "and collected": """
for name in [name for name in sys.modules if name.partition(".")[0] == "mipoison"]:
    del sys.modules[name]
del mp
gc.collect()
import mipoison as mp
gc.collect()
""",
    "the package alone": """
del sys.modules["mipoison"]
import mipoison as mp
""",
    "a reload": "mp = importlib.reload(mp)",
    "a reload of the operators": """
import mipoison.ops.library
for _ in range(2):
    importlib.reload(mipoison.ops.library)
gc.collect()
""",
    "a reload of every module": """
for name in sorted(name for name in sys.modules if name.startswith("mipoison") and not name.endswith("_C")):
    importlib.reload(sys.modules[name])
""",
}


@pytest.mark.parametrize("again", unless(("all modules",), AGAIN))
def test_a_second_import_answers_as_the_first(again: str, tmp_path: Path) -> None:
    done = run(START + AGAIN[again] + END, tmp_path)
    assert done.stdout.split() == ["True"], done.stderr


def test_failed_import_raises_the_same_error_again(tmp_path: Path) -> None:
    program = """
import sys, types
broken = types.ModuleType("mipoison._C")
def refuse(*arguments):
    raise RuntimeError("expected torch >= 2.11")
broken.register_operators = refuse
for _ in range(2):
    for name in [name for name in sys.modules if name.partition(".")[0] == "mipoison"]:
        del sys.modules[name]
    sys.modules["mipoison._C"] = broken
    try:
        import mipoison
    except RuntimeError as error:
        print(error)
"""
    done = run(program, tmp_path)
    assert done.stdout.splitlines() == ["expected torch >= 2.11"] * 2, done.stderr


def test_another_version_in_the_same_process_is_refused(tmp_path: Path) -> None:
    program = """
import importlib, mipoison.ops.library, torch
(name, (schemas, library)), = [(k, v) for k, v in vars(torch.ops.mipoison).items() if "registered" in k]
setattr(torch.ops.mipoison, name, (schemas[1:], library))
importlib.reload(mipoison.ops.library)
"""
    done = run(program, tmp_path)
    assert done.returncode == 1
    assert "ImportError: expected one version of mipoison in a process" in done.stderr


# Without the finder of an editable installation, which finds the parts of the other folder.
INSTALLED = """
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in repr(finder)]
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A checkout in which nothing was built."""
    ignored = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(ROOT / "mipoison", tmp_path / "checkout" / "mipoison", ignore=ignored)
    shutil.copytree(ROOT / "kernels", tmp_path / "checkout" / "kernels", ignore=ignored)
    return tmp_path / "checkout"


def test_a_source_folder_that_hides_the_package_says_so(source: Path) -> None:
    for program in (
        "import mipoison",
        "from mipoison.ops import project",
        "import mipoison.defenses",
    ):
        done = run(INSTALLED + program, source)
        *_, sentence = done.stderr.splitlines()
        assert done.returncode == 1 and "circular import" not in done.stderr
        assert sentence == (
            f"ImportError: expected mipoison._C in the package that was imported, {source / 'mipoison'}, got none: "
            f"it is the source, and hides the installed package from a Python that is started in {source}; start it "
            "in another folder, or build the package there with: pip install -e ."
        )
        assert "During handling" not in done.stderr and "direct cause" not in done.stderr


def test_missing_kernels_raise_the_same_error(source: Path) -> None:
    (built,) = (ROOT / "mipoison").glob("_C*.so")
    shutil.copy(built, source / "mipoison")
    done = run(INSTALLED + "from mipoison import gpu; gpu._kernels('project')", source)
    *_, sentence = done.stderr.splitlines()
    assert sentence.startswith("ImportError: expected mipoison.kernels in the package that was")
    assert "pip install -e ." in sentence
