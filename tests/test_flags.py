"""The user's compiler flags: the extension's own come last and win, in every unit and at the link."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from test_packaging import PRODUCTS, ROOT, X86, run

REAL = shutil.which("c++") or "g++"
# What would let a NaN pass, change an answer's bits, or set up the process otherwise.
WANTED = {
    "fast": "-Ofast -ffast-math",
    "finite": "-ffinite-math-only -fno-signed-zeros",
    "unsafe": "-funsafe-math-optimizations -fassociative-math -freciprocal-math -ffp-contract=fast",
    "slow": "-O0",
    "native": "-march=native -O1",
    "wide": "-mavx512f -mfma" if X86 else "-O1",
}
VARIABLES = ("CFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS")


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[list[str]]]:
    """For each wish the compiler's command lines, recorded by one that writes empty files."""
    checkout = tmp_path_factory.mktemp("flags")
    for name in ("csrc", "kernels", "mipoison"):
        shutil.copytree(ROOT / name, checkout / name, ignore=PRODUCTS)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, checkout)
    recorder, log = checkout / "recorder", checkout / "log"
    recorder.write_text(
        f"""#!/bin/sh
for word; do printf '%s\\t' "$word"; done >> {shlex.quote(str(log))}
echo >> {shlex.quote(str(log))}
while [ "$#" -gt 0 ]; do [ "$1" = -o ] && : > "$2"; shift; done
exit 0
"""
    )
    recorder.chmod(0o755)
    found = {}
    for name, flags in WANTED.items():
        log.write_text("")
        wishes = dict.fromkeys(VARIABLES, flags)
        run(
            *("setup.py", "-q", "build_ext", "--force", "--build-lib", checkout / "lib"),
            cwd=checkout,
            env={"CC": str(recorder), "CXX": str(recorder), **wishes},
        )
        lines = log.read_text().splitlines()
        found[name] = [line.rstrip("\t").split("\t") for line in lines]
    return found


def units(commands: list[list[str]]) -> dict[str, list[str]]:
    """The compilations by instruction set, and the link."""
    found = {}
    for command in commands:
        if "-c" not in command:
            found["link"] = command
        elif any(word.endswith("kernels.cpp") for word in command):
            (name,) = [w.split("=")[1] for w in command if "MIPOISON_ISA=" in w] or ["baseline"]
            found[name] = command
    return found


def flags_of(command: list[str]) -> list[str]:
    """The flags of a compilation."""
    return [w for w in command if w.startswith(("-f", "-m", "-O", "-std", "-D"))]


def macros(flags: list[str]) -> dict[str, str]:
    """What the real compiler defines under them."""
    done = subprocess.run(
        [REAL, "-x", "c++", "-dM", "-E", *flags, "/dev/null"],
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(re.findall(r"#define (\w+) ?(.*)", done.stdout))


@pytest.mark.parametrize("wish", WANTED)
def test_build_flags_override_the_environment(
    wish: str, commands: dict[str, list[list[str]]]
) -> None:
    found = units(commands[wish])
    sets = {"baseline", "avx2", "avx512"} if X86 else {"baseline"}
    assert found.keys() == sets | {"link"}
    # The wish was heard.
    assert all(set(WANTED[wish].split()) <= set(command) for command in found.values())
    for name in sets:
        defined = macros(flags_of(found[name]))
        assert "__FAST_MATH__" not in defined and defined["__FINITE_MATH_ONLY__"] == "0"
        assert "__OPTIMIZE__" in defined
        if X86:
            assert "__FMA__" not in defined or name != "baseline"
            assert ("__AVX2__" in defined) == (name != "baseline")
            assert ("__AVX512F__" in defined) == (name == "avx512")


# Each line is another number where a compiler is free to rearrange it.
PROBE = """
extern "C" __attribute__((visibility("default"))) void probe(const double* x, double* c) {
  c[0] = x[0] * x[1] - x[2];
  c[1] = x[3] - x[3] * x[0] + -0.0;
  c[2] = x[4] == x[4];
  c[3] = (x[0] + x[5]) - x[5];
  c[4] = x[0] / x[6] + x[1] / x[6];
}
"""


@pytest.mark.parametrize("wish", WANTED)
def test_compiler_flags_of_each_unit(
    wish: str, commands: dict[str, list[list[str]]], tmp_path: Path
) -> None:
    inputs = (1 + 2.0**-30, 1 + 2.0**-29, 1.0, 0.0, float("nan"), 2.0**60, 3.0)
    source, part, library = (tmp_path / f"probe.{end}" for end in ("cpp", "o", "so"))
    source.write_text(PROBE)
    found = units(commands[wish])
    flags = [*flags_of(found["baseline"]), "-fPIC", "-c", source, "-o", part]
    subprocess.run([REAL, *flags], check=True)
    subprocess.run([REAL, *flags_of(found["link"]), "-shared", part, "-o", library], check=True)
    program = f"""
import ctypes
x, c = (ctypes.c_double * 7)(*map(float.fromhex, {[v.hex() for v in inputs]})), (ctypes.c_double * 5)()
ctypes.CDLL({str(library)!r}).probe(x, c)
a, b, d, z, n, e, t = x
written = a * b - d, z - z * a + -0.0, float(n == n), (a + e) - e, a / t + b / t
print([v.hex() for v in c] == [v.hex() for v in written])
# Nothing was set for the process: a denormal number is not zero.
print(5e-324 * 1.0 > 0 and 1e-310 / 2 > 0)
"""
    assert run("-c", program, cwd=tmp_path).split() == ["True", "True"]


@pytest.mark.full
def test_a_build_with_fast_flags_refuses_what_it_must(tmp_path: Path) -> None:
    wheels, target = tmp_path / "wheels", tmp_path / "site"
    fast = "-Ofast -ffast-math -march=native"
    run(
        *(
            "-m",
            "pip",
            "wheel",
            "--no-build-isolation",
            "--no-deps",
            "--no-index",
            "-w",
            wheels,
            ROOT,
        ),
        cwd=tmp_path,
        env=dict.fromkeys(VARIABLES, fast),
    )
    (wheel,) = wheels.glob("*.whl")
    run(
        "-m",
        "pip",
        "install",
        "--no-deps",
        "--no-index",
        "-q",
        "--target",
        target,
        wheel,
        cwd=tmp_path,
    )
    program = """
import mipoison as mp, torch
from mipoison import cpu
print(float(torch.tensor([1e-40]) * 1) > 0)
for name in cpu.instruction_sets():
    with cpu.using(name):
        for k in (2, 10, 400):
            p = torch.softmax(torch.randn(40, k), 1)
            p[3, 1] = float("nan")
            try:
                mp.project(p, center=p, epsilon=0.1)
            except ValueError as error:
                print("row 3" in str(error))
"""
    printed = run("-c", program, cwd=tmp_path, env={"PYTHONPATH": str(target)})
    assert set(printed.split()) == {"True"} and len(printed.split()) > 3
