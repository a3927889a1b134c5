"""The compiled extension and the package map; everything else stands in pyproject.toml."""

import platform
from pathlib import Path

from pybind11.setup_helpers import Pybind11Extension
from setuptools import find_packages, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, ExecError, PlatformError

# The baseline units come first: where units share an inline function of the standard library, the
# linker keeps the first copy, and that one must run on every processor.
SOURCES = ["csrc/bindings.cpp", "csrc/dispatch.cpp", "csrc/kernels.cpp"]
HEADERS = sorted(str(path) for path in Path("csrc").glob("*.h"))

X86 = platform.machine().lower() in ("x86_64", "amd64")

# The compiler reads its flags from left to right, the user's first: what would let it compute something else than is
# written is taken back, and so is a wider processor, which the units below have to themselves. The last flag of the
# file forbids contraction into fused multiply-adds, which would make results depend on compiler flags.
EXACT = [
    *Path("csrc/exact.flags").read_text(encoding="ascii").split(),
    *(["-march=x86-64", "-mno-sse3", "-mfpmath=sse"] if X86 else []),
]

# kernels.cpp is compiled once more for each; csrc/dispatch.cpp chooses among them at run time.
INSTRUCTION_SETS = {
    "avx2": ["-mavx2", "-mfma"],
    "avx512": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"],
}


class BuildExtension(build_ext):
    """Builds the extension with the wide kernels that the compiler knows."""

    def build_extension(self, ext):
        """Compiles one extension module.

        Raises:
            SystemExit: if no C++17 compiler does the work.
        """
        if X86:
            for name, flags in INSTRUCTION_SETS.items():
                self.add_unit(ext, name, flags)
        try:
            super().build_extension(ext)
        except (CompileError, ExecError, PlatformError) as error:
            raise SystemExit(
                f"mipoison needs a working C++17 compiler and the Python headers to build {ext.name} "
                f"(Debian and Ubuntu: `apt install g++ python3-dev`; another compiler: set CC and CXX): {error}"
            ) from error

    def add_unit(self, ext, name, flags):
        """Compiles the kernels for one instruction set; goes on without where the compiler cannot."""
        try:
            objects = self.compiler.compile(
                ["csrc/kernels.cpp"],
                output_dir=str(Path(self.build_temp) / name),
                macros=[("MIPOISON_ISA", name)],
                extra_postargs=[*ext.extra_compile_args, *flags],
                depends=HEADERS,
            )
        except (CompileError, ExecError, PlatformError) as error:
            print(f"mipoison is built without its {name} kernels: {error}")
            return
        ext.extra_objects.extend(objects)
        ext.define_macros.append((f"MIPOISON_HAS_{name.upper()}", None))


setup(
    packages=[*find_packages(include=["mipoison", "mipoison.*"]), "mipoison.kernels"],
    package_dir={"mipoison.kernels": "kernels"},
    ext_modules=[
        Pybind11Extension(
            "mipoison._C",
            SOURCES,
            depends=HEADERS,
            cxx_std=17,
            extra_compile_args=[
                *EXACT,
                "-Wall",
                "-Wextra",
                "-pthread",
                "-g0",
                # Nobody asks for errno or floating-point exceptions, and both keep loops scalar.
                "-fno-math-errno",
                "-fno-trapping-math",
            ],
            # Linked with -ffast-math, the extension would turn denormal numbers off for the whole process.
            extra_link_args=[*EXACT, "-pthread"],
        )
    ],
    cmdclass={"build_ext": BuildExtension},
)
