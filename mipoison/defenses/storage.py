"""One file for one defense, as safetensors: its kind, settings and tensors, never the key."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import secrets
import shutil
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, TypeAlias

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

File: TypeAlias = "str | PathLike[str] | BinaryIO"

_FORMAT: Final = 2
# Bytes of the header's length, which stands before it.
_LENGTH: Final = 8


class Content(NamedTuple):
    """The content of a file.

    Attributes:
        kind: the class that wrote it.
        settings: the constructor's arguments beside the tensors; JSON types.
        tensors: the tensors, copied.
        where: the file, for messages.
    """

    kind: str
    settings: dict[str, Any]
    tensors: dict[str, Tensor]
    where: str


def save(file: File, kind: str, settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Writes one file; settings travel as JSON in its metadata.

    Args:
        file: a path, whose old content stays until the new one is complete; or a file opened for
            writing bytes.
        kind: the class.
        settings: of JSON types; infinities come back as they were.
        tensors: by name.

    Raises:
        TypeError: for another kind of file, or settings of other types.
        OSError: if the path cannot be written, or the file takes only a part.
    """
    try:
        text = json.dumps(dict(settings))
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"expected the settings of {kind} to be numbers, texts, lists and None, got others: {error}"
        ) from error
    # Copies: safetensors refuses tensors that share memory.
    contiguous = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in tensors.items()
    }
    metadata = {"mipoison": kind, "format": str(_FORMAT), "settings": text}
    metadata["digest"] = _digest(kind, text, contiguous)
    data = safetensors.torch.save(contiguous, metadata=metadata)
    if hasattr(file, "write"):
        _write(file, data)
    else:
        path = _as_path(file)
        if path.endswith(os.sep):
            raise IsADirectoryError(f"expected a path to write a file to, got the folder {path}")
        _replace(Path(path), data)


def load(file: File) -> Content:
    """Reads what `save` wrote. Nothing of the file stays mapped, so it may be replaced.

    Raises:
        TypeError: for another kind of file.
        ValueError: if the file holds something else.
        OSError: if it cannot be read.
    """
    where = _name(file)
    data = file.read() if hasattr(file, "read") else Path(_as_path(file)).read_bytes()
    if isinstance(data, str):
        raise TypeError(f"expected a file opened for bytes (mode 'rb'), got {where} for text")
    if not isinstance(data, bytes | bytearray | memoryview):
        raise TypeError(f"expected bytes from {where}, got {type(data).__name__}")
    data = bytes(data)
    try:
        # Make no inference tensors, and ignore the default device.
        with torch.inference_mode(False), torch.device("cpu"):
            # Cloned: safetensors may return views of one buffer or of the file.
            tensors = {name: x.clone() for name, x in safetensors.torch.load(data).items()}
    except SafetensorError as error:
        rewind = "; rewind it with file.seek(0)" if hasattr(file, "read") and not data else ""
        raise ValueError(
            f"expected a file saved by a mipoison defense, got no safetensors in {where} ({error}){rewind}"
        ) from error
    begin = _LENGTH + int.from_bytes(data[:_LENGTH], "little")
    metadata = json.loads(data[_LENGTH:begin]).get("__metadata__") or {}
    if "mipoison" not in metadata:
        raise ValueError(
            f"expected a file saved by a mipoison defense, got no mipoison defense in {where}"
        )
    if metadata.get("format") != str(_FORMAT):
        raise ValueError(
            f"expected format {_FORMAT} in {where}, got {metadata.get('format')}: another version of mipoison saved "
            "it; read it with that version, or fit the defense again"
        )
    kind, text = metadata["mipoison"], metadata.get("settings", "")
    # (One bit of a penalty decides whether rows move at all.)
    if metadata.get("digest") != _digest(kind, text, tensors):
        raise ValueError(
            f"expected in {where} what a defense saved, got another content than its digest says: the file is damaged "
            "or was changed; save it again"
        )
    try:
        settings = json.loads(text)
    except ValueError:
        settings = None
    if not isinstance(settings, dict):
        raise ValueError(
            f"expected the settings of a defense in {where}, got none that can be read; save it again"
        )
    return Content(kind, settings, tensors, where)


def _digest(kind: str, settings: str, tensors: Mapping[str, Tensor]) -> str:
    """Of all that a file holds, by which damage is found; whoever can write the file can write another digest."""
    made = hashlib.blake2b(digest_size=16)
    for name, value in sorted(tensors.items()):
        made.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        # (The bytes where they lie, since a bank may be large.)
        made.update(value.contiguous().view(-1).view(torch.uint8).numpy().data)
    made.update(f"{kind}\n{settings}".encode())
    return made.hexdigest()


def below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with "prefix.", under the rest of their names."""
    start = prefix + "."
    return {
        name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)
    }


def _as_path(file: Any) -> str:
    """A path as a text.

    Raises:
        TypeError: if it is none.
        ValueError: if it is empty or no file can have it.
    """
    if not isinstance(file, str | PathLike):
        raise TypeError(
            f"expected file to be a path or a file opened for bytes, got {type(file).__name__}"
        )
    path = os.fsdecode(file)
    if not path or "\0" in path:
        raise ValueError(f"expected file to be a path, got {path!r}")
    return path


def _name(file: Any) -> str:
    """The file in messages."""
    if isinstance(file, str | PathLike):
        return os.fsdecode(file)
    return str(getattr(file, "name", f"a {type(file).__name__}"))


def _write(file: Any, data: bytes) -> None:
    """Writes all of the bytes: an unbuffered file takes as many at a time as it can."""
    done = 0
    while done < len(data):
        try:
            count = file.write(data[done:])
        except TypeError as error:
            raise TypeError(
                f"expected a file opened for bytes (mode 'wb'), got {_name(file)} for text"
            ) from error
        if count is None and not isinstance(file, io.RawIOBase):
            # Some writers do not say how much they took, and take all.
            return
        if not count:
            raise OSError(
                f"expected {_name(file)} to take {len(data)} bytes, got no room after {done}; what is written there is "
                "incomplete"
            )
        done += count


def _replace(path: Path, data: bytes) -> None:
    """Replaces the file by the bytes, atomically."""
    # Through a link, replace the file that it points to.
    path = Path(os.path.realpath(path))
    if path.is_dir():
        raise IsADirectoryError(f"expected a path to write a file to, got the folder {path}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"expected a path in a folder that exists, got {path}")
    if path.exists() and not path.is_file():
        # A pipe or a device cannot be replaced.
        path.write_bytes(data)
        return
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise PermissionError(
            f"expected a folder to write to, since a file is replaced when the new one is complete, got {path.parent}"
        )
    # (Not derived from the path's name, which may already have the greatest length.)
    partial = path.with_name(f".{secrets.token_hex(8)}.partial")
    try:
        # Not `tempfile`, whose files only their owner can read.
        with open(partial, "xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        if path.exists():
            shutil.copymode(path, partial)
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    _settle(path.parent)


def _settle(folder: Path) -> None:
    """Flushes a folder's new entries to disk, where its file system supports that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
