"""The package as others get it: sdist, wheel from the sdist, installed away from the repository."""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from mipoison import _C, cpu

ROOT = Path(__file__).resolve().parents[1]
# What a checkout holds beside build products.
SOURCES = ("csrc", "kernels", "mipoison", "tests", "benchmarks")
TEMPLATES = [
    path.relative_to(ROOT / "mipoison").as_posix()
    for part in ("eval", "audit")
    for path in (ROOT / f"mipoison/{part}/report/templates").iterdir()
]
PRODUCTS = shutil.ignore_patterns("*.so", "__pycache__", "*.egg-info", "results")


def run(
    *command: str | Path, cwd: Path, env: dict[str, str] | None = None, fails: bool = False
) -> str:
    """Runs a command of this interpreter; returns what it printed."""
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=cwd,
        env=os.environ | (env or {}),
        timeout=300,
    )
    assert (done.returncode != 0) == fails, done.stdout
    return done.stdout


def build_wheel(sdist: Path, into: Path, **how: object) -> str:
    offline = ("--no-build-isolation", "--no-deps", "--no-index", "--no-cache-dir")
    return run("-m", "pip", "wheel", *offline, "-w", into, sdist, cwd=into.parent, **how)  # type: ignore[arg-type]


def quick_compiler(at: Path, *, unknown: str = "-mavx*") -> dict[str, str]:
    """The environment for a compiler of the baseline that does not optimise, and so takes a fraction of the time.

    What is installed beside the tests is optimised and has every instruction set, from the same sources.

    Args:
        at: where it is written.
        unknown: the options that it refuses, a pattern of the shell.
    """
    real = shlex.quote(shutil.which("c++") or "g++")
    # Of the options for optimisation the last wins.
    at.write_text(
        f"""#!/bin/sh
for option; do
  case "$option" in {unknown})
    echo "unrecognized command-line option '$option'" >&2
    exit 1
  esac
done
exec {real} "$@" -O0
"""
    )
    at.chmod(0o755)
    return {"CC": str(at), "CXX": str(at)}


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the checkout, so that nothing is written into it."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in SOURCES:
        if (ROOT / name).exists():
            shutil.copytree(ROOT / name, copy / name, ignore=PRODUCTS)
    for path in ROOT.iterdir():
        if path.is_file() and not path.name.startswith("."):
            shutil.copy(path, copy)
    dist = tmp_path_factory.mktemp("sdist")
    program = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    run("-c", program, dist, cwd=copy)
    (archive,) = dist.glob("mipoison-*.tar.gz")
    return archive


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    into = tmp_path_factory.mktemp("wheel")
    build_wheel(sdist, into, env=quick_compiler(into.parent / "quick-compiler"))
    (archive,) = into.glob("mipoison-*.whl")
    return archive


def test_the_sdist_holds_the_sources_and_no_products(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {
        *(f"csrc/{path.name}" for path in (ROOT / "csrc").iterdir()),
        *("kernels/__init__.py", "mipoison/_C.pyi", "mipoison/py.typed", "LICENSE", "setup.py"),
        *(f"mipoison/{name}" for name in TEMPLATES),
    }
    assert wanted <= names
    assert not [name for name in names if name.endswith((".so", ".o", ".pyc"))]


def test_the_tests_of_the_sdist_are_whole_or_absent(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    packed = {Path(name).name for name in names if re.match(r"tests/[^/]+\.py$", name)}
    assert packed in (set(), {path.name for path in (ROOT / "tests").glob("*.py")})


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    files = ("kernels/__init__.py", "py.typed", "_C.pyi", "reference/project.py", "cli.py")
    for wanted in (*files, *TEMPLATES):
        assert f"mipoison/{wanted}" in names
    assert [name for name in names if re.fullmatch(r"mipoison/_C\..*\.so", name)]
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"mipoison"}
    assert not [name for name in names if re.search(r"(^|/)(tests|benchmarks|csrc)/", name)]
    assert not [name for name in names if name.endswith((".cpp", ".h"))]
    every = {path.relative_to(ROOT).as_posix() for path in (ROOT / "mipoison").rglob("*.py")}
    assert every <= set(names)


def test_the_wheel_says_what_it_needs(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (metadata,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    head, _, description = archive.read(metadata).decode().partition("\n\n")
    always = [line for line in head.splitlines() if line.startswith("Requires-Dist")]
    needed = {re.split(r"[ <>=;]", line)[1] for line in always if "extra ==" not in line}
    assert needed == {"torch", "numpy", "safetensors"}
    assert "License-Expression: Apache-2.0" in head and "Requires-Python: >=3.10" in head
    # The page that a package index shows.
    assert description.strip()


def test_the_wheel_works_away_from_the_repository(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "site"
    quiet = ("--no-deps", "--no-index", "--quiet", "--target", target)
    run("-m", "pip", "install", *quiet, wheel, cwd=tmp_path)
    program = """
import mipoison as mp, mipoison.kernels, torch
print(mp.__file__, mipoison.kernels.__file__, mp.backends()["cpp"], sep="\\n")
p = torch.softmax(torch.randn(40, 10), 1)
defense = mp.LPA.fit(p, torch.rand(40, 3), objective="direction", key=1)
print(torch.equal(defense(p).argmax(1), p.argmax(1)))
"""
    printed = run("-c", program, cwd=tmp_path, env={"PYTHONPATH": str(target)}).splitlines()
    assert printed[0] == str(target / "mipoison" / "__init__.py")
    assert printed[1] == str(target / "mipoison" / "kernels" / "__init__.py")
    assert printed[2] not in ("", "False", "None")
    assert printed[3] == "True"
    assert (target / "bin" / "mipoison").exists()


def test_build_without_a_compiler_prints_one_sentence(sdist: Path, tmp_path: Path) -> None:
    into = tmp_path / "wheel"
    into.mkdir()
    nowhere = {"CC": str(tmp_path / "no-cc"), "CXX": str(tmp_path / "no-c++")}
    printed = build_wheel(sdist, into, env=nowhere, fails=True)
    (sentence,) = [line.strip() for line in printed.splitlines() if "C++17 compiler" in line]
    assert sentence.startswith("mipoison needs a working C++17 compiler and the Python headers")
    assert "apt install g++" in sentence and "set CC and CXX" in sentence
    assert "Traceback" not in printed and not list(into.glob("*.whl"))


X86 = platform.machine().lower() in ("x86_64", "amd64")


@pytest.mark.full
def test_build_without_avx512_support(sdist: Path, tmp_path: Path) -> None:
    wheels, target = tmp_path / "wheel", tmp_path / "site"
    wheels.mkdir()
    build_wheel(sdist, wheels, env=quick_compiler(tmp_path / "old-compiler", unknown="-mavx512f"))
    (archive,) = wheels.glob("*.whl")
    zipfile.ZipFile(archive).extractall(target)
    program = """
import mipoison as mp, torch
from mipoison import cpu
print(*cpu.instruction_sets())
p = torch.softmax(torch.randn(40, 10), 1)
print(torch.equal(mp.lpa(p, key=1).argmax(1), p.argmax(1)))
"""
    names, kept = run("-c", program, cwd=tmp_path, env={"PYTHONPATH": str(target)}).splitlines()
    assert names.split() == [name for name in cpu.instruction_sets() if name != "avx512"]
    assert kept == "True"
    (extension,) = target.glob("mipoison/_C.*.so")
    built = extension.read_bytes()
    assert b"6avx512" not in built and (b"4avx2" in built) == X86


@pytest.mark.skipif(not X86, reason="one instruction set")
@pytest.mark.skipif(not shutil.which("objdump"), reason="binutils read the extension")
def test_no_shared_function_needs_a_wide_processor() -> None:
    """Inline functions of the standard library exist once, whichever unit the linker took them from."""
    listing = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", _C.__file__],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    # VEX and EVEX encodings, which the baseline's compiler never uses.
    wide = re.compile(r"\tv\w+\s.*%[xyz]mm|\tvzero|\tk\w+\s.*%k[0-7]")
    functions: dict[str, bool] = {}
    for line in listing.splitlines():
        if line.endswith(">:"):
            name = line.split("<")[1][:-2]
            functions.setdefault(name, False)
        elif wide.search(line):
            functions[name] = True
    units = {"avx2": "4avx2", "avx512": "6avx512"}  # as their namespaces are mangled
    needing = {name for name, needs in functions.items() if needs}
    for unit in cpu.instruction_sets()[:-1]:
        assert any(units[unit] in name for name in needing)
    others = {name for name in needing if not any(unit in name for unit in units.values())}
    # A clone (f.constprop.0) belongs to the unit that made it; what runs at load time has a dot too.
    assert not {name for name in others if "." not in name or name.startswith("_GLOBAL_")}
