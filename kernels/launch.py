"""How rows are spread over programs: by K, dtype and norm alone, so that a row's bits do not depend on its batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor

# Columns that a program keeps in registers at most: in float32, where every row begins at a multiple of
# _ALIGNED entries and where not (columns have to be remembered one by one there), and in float64.
_WIDEST, _WIDEST_UNALIGNED, _WIDEST_EXACT = 16_384, 8192, 2048
_ALIGNED = 16
_NARROWEST = 16
# Longer rows go by in chunks of this.
_LONG = 1024
# Up to here rows share a program.
_SHARED = 128


@dataclass(frozen=True)
class Shape:
    """R rows a program, B columns of each in registers; in float64 C columns, CHUNKS of which are a row."""

    R: int
    B: int
    C: int
    CHUNKS: int
    warps: int

    def constants(self) -> dict[str, int]:
        """What the kernels call them."""
        return {"R": self.R, "B": self.B, "C": self.C, "CHUNKS": self.CHUNKS}

    def tile(self) -> dict[str, int]:
        """The same for kernels that compute in float64 only."""
        return {"R": self.R, "B": self.C, "CHUNKS": self.CHUNKS}

    def options(self) -> dict[str, Any]:
        """Compiler options. Without fused multiply-adds a row's bits do not depend on the compiler's mood."""
        # All registers that there are: left to itself ptxas spills a few to run more programs at once.
        registers = min(255, 65536 // (32 * self.warps))
        return {"num_warps": self.warps, "enable_fp_fusion": False, "maxnreg": registers}

    def grid(self, n: int) -> tuple[int]:
        """Programs for n rows."""
        return (triton.cdiv(n, self.R),)


def _width(k: int) -> int:
    return max(_NARROWEST, int(triton.next_power_of_2(k)))


def float32_shape(k: int) -> Shape | None:
    """For rows in float32 registers; None where a row is too long."""
    width = _width(k)
    if width > (_WIDEST if k % _ALIGNED == 0 else _WIDEST_UNALIGNED):
        return None
    if width <= _SHARED:
        return Shape(512 // width, width, width, 1, 4)
    # Eight columns a thread, up to 32 where there are no more threads; float64, which few rows
    # take, reads four at a time.
    warps = min(16, width // 256)
    chunk = 128 * warps
    return Shape(1, width, chunk, triton.cdiv(k, chunk), warps)


def float64_shape(k: int, norm: str) -> Shape:
    """For rows in float64 registers, or longer ones in chunks."""
    width = _width(k)
    if width <= _SHARED:
        # One warp, few rows: they wait for the slowest, and l1 needs the registers for one.
        return Shape(1 if norm == "l1" else max(1, 32 // width), width, width, 1, 1)
    if width > _WIDEST_EXACT:
        return Shape(1, _LONG, _LONG, triton.cdiv(k, _LONG), 8)
    return Shape(1, width, width, 1, max(1, width // 256))


def in_columns(x: Tensor | None) -> Tensor | None:
    """The tensor with its columns side by side; rows may lie any distance apart."""
    return x if x is None or x.stride(1) == 1 or x.shape[1] <= 1 else x.contiguous()


def outputs(like: Tensor, out: Tensor | None, shape: Shape) -> tuple[Tensor, Tensor]:
    """Where the rows and the number of invalid ones go; a program that is alone zeroes the number itself."""
    programs = shape.grid(like.shape[0])[0]
    fresh = torch.empty if programs == 1 else torch.zeros
    status = fresh((), dtype=torch.int64, device=like.device)
    if out is None:
        out = torch.empty(like.shape, dtype=like.dtype, device=like.device)
    return out, status
