"""Saving a defense as safetensors: tensors and settings, never the key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from os import PathLike
from typing import Any, Final

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

_FORMAT: Final = 1


def save(
    path: str | PathLike[str], kind: str, settings: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> None:
    """Writes one file; settings travel as JSON in its metadata."""
    metadata = {"mipoison": kind, "format": str(_FORMAT), "settings": json.dumps(dict(settings))}
    contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    save_file(contiguous, str(path), metadata=metadata)


def load(path: str | PathLike[str], kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Reads what `save` wrote: (settings, tensors).

    Raises:
        ValueError: if the file holds something else.
    """
    try:
        opened = safe_open(str(path), framework="pt")
    except SafetensorError as error:
        raise ValueError(
            f"expected a file saved by {kind}.save, got no safetensors file in {path}: {error}"
        ) from error
    with opened as file:
        metadata = file.metadata() or {}
        found = metadata.get("mipoison", "no mipoison defense")
        if found != kind:
            raise ValueError(f"expected a file saved by {kind}.save, got {found} in {path}")
        if metadata.get("format") != str(_FORMAT):
            raise ValueError(
                f"expected format {_FORMAT} in {path}, got {metadata.get('format')}; "
                "save the defense again with this version"
            )
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return json.loads(metadata["settings"]), tensors


def below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with "prefix.", under the rest of their names."""
    start = prefix + "."
    return {
        name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)
    }
