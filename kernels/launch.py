"""How rows are spread over programs: by K, dtype and norm only, so that a row's bits do not depend on its batch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor

# The most columns that a program keeps in registers: in float32 with rows that begin at a multiple of _ALIGNED entries,
# in float32 with others (whose columns take registers, too), and in float64.
_WIDEST, _WIDEST_UNALIGNED, _WIDEST_FLOAT64 = 16_384, 8192, 2048
_ALIGNED = 16
_NARROWEST = 16
# Longer rows are read in chunks of this many columns.
_LONG = 1024
# Up to this width several rows share a program.
_SHARED = 128
# Rows of a program that evaluates networks, columns of the rows and units of a layer that it takes at a time.
_TILE, _COLUMNS, _UNITS = 16, 64, 64
# The most such programs: each has scratch memory, and goes on to the next tile of rows.
_PROGRAMS = 1024


@dataclass(frozen=True)
class Shape:
    """R rows a program, B columns of each in registers; in float64 C columns, CHUNKS of which are a row."""

    R: int
    B: int
    C: int
    CHUNKS: int
    warps: int

    def constants(self) -> dict[str, int]:
        """The constants under the kernels' names."""
        return {"R": self.R, "B": self.B, "C": self.C, "CHUNKS": self.CHUNKS}

    def tile(self) -> dict[str, int]:
        """The same for kernels that compute in float64 only."""
        return {"R": self.R, "B": self.C, "CHUNKS": self.CHUNKS}

    def options(self) -> dict[str, Any]:
        """Compiler options; contraction into FMA would make a row's bits depend on the compiler."""
        # All registers: by default ptxas spills a few to run more programs at once.
        registers = min(255, 65536 // (32 * self.warps))
        return {"num_warps": self.warps, "enable_fp_fusion": False, "maxnreg": registers}

    def grid(self, n: int) -> tuple[int]:
        """Programs for n rows."""
        return (triton.cdiv(n, self.R),)


class Tiles(Shape):
    """The same for networks: B units of a layer; C columns of the rows, CHUNKS of which are a row."""

    def grid(self, n: int) -> tuple[int]:
        """Programs for n rows."""
        return (min(_PROGRAMS, triton.cdiv(n, self.R)),)

    def options(self) -> dict[str, Any]:
        """Compiler options; to load the next chunk of a product ahead would take more registers than there are."""
        return {**super().options(), "num_stages": 1}


def _width(k: int) -> int:
    return max(_NARROWEST, int(triton.next_power_of_2(k)))


def float32_shape(k: int) -> Shape | None:
    """For rows in float32 registers; None where a row is too long."""
    width = _width(k)
    if width > (_WIDEST if k % _ALIGNED == 0 else _WIDEST_UNALIGNED):
        return None
    if width <= _SHARED:
        return Shape(512 // width, width, width, 1, 4)
    # Eight columns a thread, up to 32 where there are no more threads. Float64, which few rows need,
    # reads four at a time.
    warps = min(16, width // 256)
    chunk = 128 * warps
    return Shape(1, width, chunk, triton.cdiv(k, chunk), warps)


def float64_shape(k: int, norm: str) -> Shape:
    """For rows in float64 registers, or longer ones in chunks."""
    width = _width(k)
    if width <= _SHARED:
        # One warp and few rows, since all wait for the slowest; l1 needs all registers for one row.
        return Shape(1 if norm == "l1" else max(1, 32 // width), width, width, 1, 1)
    if width > _WIDEST_FLOAT64:
        return Shape(1, _LONG, _LONG, triton.cdiv(k, _LONG), 8)
    return Shape(1, width, width, 1, max(1, width // 256))


def network_shape(k: int, width: int) -> Tiles:
    """For networks with hidden layers of this width, whose units are cut into equal parts."""
    columns = min(_COLUMNS, _width(k))
    return Tiles(_TILE, math.gcd(width, _UNITS), columns, triton.cdiv(k, columns), 4)


def in_columns(x: Tensor | None) -> Tensor | None:
    """The tensor with contiguous columns; the stride of its rows may be anything."""
    return x if x is None or x.stride(1) == 1 or x.shape[1] <= 1 else x.contiguous()


def outputs(like: Tensor, out: Tensor | None, shape: Shape) -> tuple[Tensor, Tensor]:
    """Memory for the rows and for the number of invalid ones, which a single program zeroes itself."""
    programs = shape.grid(like.shape[0])[0]
    fresh = torch.empty if programs == 1 else torch.zeros
    status = fresh((), dtype=torch.int64, device=like.device)
    if out is None:
        out = torch.empty(like.shape, dtype=like.dtype, device=like.device)
    return out, status
