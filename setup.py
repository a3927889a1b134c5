"""The compiled extension and the package map; everything else stands in pyproject.toml."""

from pathlib import Path

from pybind11.setup_helpers import Pybind11Extension
from setuptools import find_packages, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, ExecError, PlatformError

SOURCES = sorted(str(path) for path in Path("csrc").glob("*.cpp"))
HEADERS = sorted(str(path) for path in Path("csrc").glob("*.h"))


class BuildExtension(build_ext):
    """Builds the extension, and says in one sentence what is missing when it cannot."""

    def build_extension(self, ext):
        """Compiles one extension module.

        Raises:
            SystemExit: if no C++17 compiler does the work.
        """
        try:
            super().build_extension(ext)
        except (CompileError, ExecError, PlatformError) as error:
            raise SystemExit(
                f"mipoison needs a working C++17 compiler and the Python headers to build {ext.name} "
                f"(Debian and Ubuntu: `apt install g++ python3-dev`; another compiler: set CC and CXX): {error}"
            ) from error


setup(
    packages=[*find_packages(include=["mipoison", "mipoison.*"]), "mipoison.kernels"],
    package_dir={"mipoison.kernels": "kernels"},
    ext_modules=[
        Pybind11Extension(
            "mipoison._C",
            SOURCES,
            depends=HEADERS,
            cxx_std=17,
            # No contraction into fused multiply-adds: a row's bits must not depend on the
            # compiler's mood.
            extra_compile_args=["-O3", "-Wall", "-Wextra", "-pthread", "-ffp-contract=off", "-g0"],
            extra_link_args=["-pthread"],
        )
    ],
    cmdclass={"build_ext": BuildExtension},
)
