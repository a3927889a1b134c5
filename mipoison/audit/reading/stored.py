"""Read chosen rows of arrays in npz and npy files, without the others and without unpickling anything."""

from __future__ import annotations

import lzma
import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

from mipoison.audit.reading.found import Array

_BATCH: Final = 1 << 24
# An array in the order of Fortran has its rows all over the file, and is read as a whole.
_MOST_WHOLE: Final = 1 << 31
_HOW: Final = "write it with numpy.savez(FILE, x=inputs, p=vectors)"
_READ: Final = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


@dataclass(frozen=True)
class Stored:
    """An array in a file.

    Attributes:
        file: the npz or npy.
        member: of an npz, its array's name; of an npy the empty text.
        shape: of the array.
        dtype: of its entries.
    """

    file: Path
    member: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def called(self) -> str:
        """The file and the array, for messages."""
        return f"{self.file.name}: {self.member}" if self.member else self.file.name

    def plain(self) -> Stored:
        """Itself.

        Raises:
            ValueError: if it has objects, which are never loaded.
        """
        if self.dtype.hasobject:
            raise ValueError(
                f"{self.called}: expected an array of numbers or text, got objects, which only unpickling could read "
                "and that can run code; give it a dtype, as with numpy.asarray(x, 'float32'), or leave it out"
            )
        return self

    @property
    def row(self) -> int:
        """How many numbers one row has."""
        return int(np.prod(self.shape[1:], dtype=np.int64))

    def take(self, keep: npt.NDArray[np.int64] | None = None) -> Array:
        """The rows at ascending positions; None: all.

        Raises:
            ValueError: if the file is damaged, or the array has objects.
        """
        self.plain()
        with _opened(self.file, self.member) as stream:
            fortran = _header(stream, self.called)[1]
            if fortran or not self.shape or not self.row:
                return self._whole(stream, fortran, keep)
            count = self.shape[0] if keep is None else len(keep)
            taken = np.empty((count, *self.shape[1:]), self.dtype.newbyteorder("="))
            size = max(1, self.row * self.dtype.itemsize)
            step, done = max(1, _BATCH // size), 0
            for first in range(0, self.shape[0], step):
                rows = min(step, self.shape[0] - first)
                part = np.frombuffer(_exactly(stream, rows * size), self.dtype)
                part = part.reshape(rows, *self.shape[1:])
                if keep is not None:
                    low, high = np.searchsorted(keep, (first, first + rows))
                    part = part[keep[low:high] - first]
                taken[done : done + len(part)] = part
                done += len(part)
            return taken

    def _whole(self, stream: IO[bytes], fortran: bool, keep: npt.NDArray[np.int64] | None) -> Array:
        entries = int(np.prod(self.shape, dtype=np.int64))
        if entries * self.dtype.itemsize > _MOST_WHOLE:
            raise ValueError(
                f"{self.called}: expected an array in C order or of at most 2 GiB, got {list(self.shape)} in the order "
                "of Fortran; save numpy.ascontiguousarray of it"
            )
        read = np.frombuffer(_exactly(stream, entries * self.dtype.itemsize), self.dtype)
        whole = read.reshape(self.shape, order="F" if fortran else "C")
        found = whole.copy() if keep is None else whole[keep]
        return found.astype(self.dtype.newbyteorder("="), copy=False)


def arrays_of(file: Path) -> dict[str, Stored]:
    """The arrays of an npz by name, or that of an npy as "".

    Raises:
        ValueError: if it is neither, or damaged.
    """
    if file.suffix.lower() == ".npy":
        return {"": _stored(file, "")}
    with _reading(file), zipfile.ZipFile(file) as archive:
        names = [name for name in archive.namelist() if name.endswith(".npy")]
    members = [name.removesuffix(".npy") for name in names]
    return {member: _stored(file, member) for member in members}


def _stored(file: Path, member: str) -> Stored:
    called = f"{file.name}: {member}" if member else file.name
    with _opened(file, member) as stream:
        shape, _, dtype = _header(stream, called)
        # (Before memory is taken for what is not there.)
        if not dtype.hasobject and math.prod(shape) * dtype.itemsize > _size(file, member):
            raise EOFError("it ends too early")
    return Stored(file, member, shape, dtype)


def _size(file: Path, member: str) -> int:
    """Bytes of an array and its header."""
    if not member:
        return file.stat().st_size
    with zipfile.ZipFile(file) as archive:
        return archive.getinfo(f"{member}.npy").file_size


def _header(stream: IO[bytes], called: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether it is in the order of Fortran, and dtype."""
    version = np.lib.format.read_magic(stream)
    if version not in _READ:
        raise ValueError(
            f"{called}: expected an array of plain numbers, got format {version}; {_HOW}"
        )
    shape, fortran, dtype = _READ[version](stream)
    if any(isinstance(length, bool) or length < 0 for length in shape):
        raise ValueError(f"a shape of {shape}")
    return shape, fortran, dtype


@contextmanager
def _opened(file: Path, member: str) -> Iterator[IO[bytes]]:
    with _reading(file):
        if not member:
            with file.open("rb") as stream:
                yield stream
            return
        with zipfile.ZipFile(file) as archive, archive.open(f"{member}.npy") as inner:
            yield inner


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Tells in one line that a file is damaged or of another kind."""
    try:
        yield
    # (RuntimeError: it is encrypted, or its compression is not known.)
    except (
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        EOFError,
        KeyError,
        RuntimeError,
        MemoryError,
    ) as error:
        said = str(error).partition("\n")[0].strip("'\"")
        raise ValueError(
            f"{file.name}: expected an npz that numpy.savez wrote, got a file that is damaged or none ({said}); {_HOW}"
        ) from error
    except ValueError as error:
        if str(error).startswith(file.name):
            raise
        said = str(error).partition("\n")[0]
        raise ValueError(
            f"{file.name}: expected arrays of NumPy, got a file that is damaged or none ({said}); {_HOW}"
        ) from error


def _exactly(stream: IO[bytes], size: int) -> bytes:
    """So many bytes."""
    read = stream.read(size)
    if len(read) != size:
        raise EOFError("it ends too early")
    return read
