"""The error for a package that lacks a part: most often the source folder, which hides the installed package."""

from __future__ import annotations

from pathlib import Path


def incomplete(module: str, stem: str, error: ImportError) -> ImportError:
    """The error to raise where a part of the package cannot be imported; the given one if the part's file exists.

    Args:
        module: the part.
        stem: the beginning of its file names in the package's folder.
        error: the error of the import.
    """
    folder = Path(__file__).parent
    built = [path for path in folder.glob(f"{stem}*") if path.suffix != ".pyi"]
    if built:
        return error
    return ImportError(
        f"expected {module} in the package that was imported, {folder}, got none: it is the source, and hides the "
        f"installed package from a Python that is started in {folder.parent}; start it in another folder, or build "
        "the package there with: pip install -e ."
    )
