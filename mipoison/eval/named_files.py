"""Tell whether the files that a configuration names are still what they were."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from mipoison.eval.configuration import Configuration
from mipoison.eval.data.folder import pictures_by_class
from mipoison.eval.outside import module_file
from mipoison.eval.outside_target import is_outside


def named_files(configuration: Configuration) -> dict[str, str]:
    """Digests of a user's own data, target and defenses, by how the configuration names them.

    Of a module its own file counts, and nothing that it imports. What is not there is left out: whoever loads it says
    so. The data of a hub have no file here.

    Example:
        >>> from mipoison.eval.presets import QUICK
        >>> named_files(QUICK)
        {}
    """
    return {name: _digest(path) for name, path in _named(configuration) if path.exists()}


def _named(configuration: Configuration) -> Iterator[tuple[str, Path]]:
    kind, _, path = configuration.dataset.partition(":")
    if kind in ("npz", "folder"):
        yield configuration.dataset, Path(path)
    named = [
        str(dict(method.options)["callable"])
        for method in configuration.methods
        if method.builder == "outside"
    ]
    if is_outside(configuration.target):
        named.append(configuration.target)
    for name in named:
        file = module_file(name) if ":" in name else Path(name)
        if file is not None:
            yield name, file


def _digest(path: Path) -> str:
    """Of a file's bytes, or of names and bytes of the pictures in a folder."""
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    whole = hashlib.sha256()
    for picture in (file for own in pictures_by_class(path) for file in own):
        whole.update(f"{picture.relative_to(path)}\0{_digest(picture)}\n".encode())
    return whole.hexdigest()
