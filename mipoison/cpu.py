"""The operations on CPU tensors by way of the compiled kernels in ``csrc/``.

Each function has the signature and the meaning of the operation of the same name; shapes, dtypes and
options have been checked by :mod:`mipoison.ops`. Inputs of any layout are made contiguous, outputs
are new unless ``out`` is given: rows without gaps, which may be an input itself but must not overlap one
in part.

Torch's dispatcher does not come by here, which would cost more than a small kernel does: it calls
the same kernels from C++ (``csrc/operators.h``), but for the forms with ``out``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mipoison import _C

# The numbers are the order of the enumerations in csrc/kernels.h.
_DTYPES = {torch.float32: 0, torch.float64: 1, torch.float16: 2, torch.bfloat16: 3}
_NORMS = {"l1": 0, "l2": 1, "linf": 2}
_TRAVELS = {"straight": 0, "waterfill": 1}
_EXCHANGES = {"swap": 0, "project": 1}
# torch.empty_like of this takes half as long as torch.empty with a dtype.
_COUNT = torch.empty((), dtype=torch.int64, device="cpu")


def _address(tensor: torch.Tensor | None) -> int:
    """Returns where a contiguous tensor begins; 0 for none."""
    return 0 if tensor is None else tensor.data_ptr()


def _contiguous(tensor: torch.Tensor | None) -> torch.Tensor | None:
    return None if tensor is None else tensor.contiguous()


def _status() -> torch.Tensor:
    return torch.empty_like(_COUNT)


def register_operators() -> None:
    """Makes the compiled operators those of CPU tensors in torch's dispatcher."""
    _C.register_operators(torch._C.__file__)


def instruction_set() -> str:
    """Returns the instruction set of the kernels in use: the widest that this processor has."""
    return _C.instruction_set()


def instruction_sets() -> tuple[str, ...]:
    """Returns those that were compiled and that this processor has, widest first."""
    return tuple(_C.instruction_sets())


@contextmanager
def using(name: str) -> Iterator[None]:
    """Makes the process use another instruction set meanwhile, to test or to compare them.

    Raises:
        ValueError: if this machine or this build has no such kernels.
    """
    before = _C.instruction_set()
    _C.use_instruction_set(name)
    try:
        yield
    finally:
        _C.use_instruction_set(before)


def project(
    z: torch.Tensor,
    p: torch.Tensor | None,
    t: torch.Tensor | None,
    epsilon: float,
    norm: str,
    margin: float,
    shrink: bool,
    out: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Projects the rows of z; returns the rows and the number of invalid ones."""
    z, p, t = z.contiguous(), _contiguous(p), _contiguous(t)
    rows = torch.empty_like(z) if out is None else out
    status = _status()
    _C.project(
        z.data_ptr(),
        _address(p),
        _address(t),
        rows.data_ptr(),
        status.data_ptr(),
        z.shape[0],
        z.shape[1],
        _DTYPES[z.dtype],
        epsilon,
        _NORMS[norm],
        margin,
        shrink,
        torch.get_num_threads(),
    )
    return rows, status


def step(
    q: torch.Tensor,
    g: torch.Tensor,
    p: torch.Tensor | None,
    t: torch.Tensor | None,
    alpha: float,
    epsilon: float,
    norm: str,
    margin: float,
    shrink: bool,
    out: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Projects the rows of q + alpha g/||g||₂; returns the rows and the number of invalid ones."""
    q, g, p, t = q.contiguous(), g.contiguous(), _contiguous(p), _contiguous(t)
    rows = torch.empty_like(q) if out is None else out
    status = _status()
    _C.step(
        q.data_ptr(),
        g.data_ptr(),
        _address(p),
        _address(t),
        rows.data_ptr(),
        status.data_ptr(),
        q.shape[0],
        q.shape[1],
        _DTYPES[q.dtype],
        alpha,
        epsilon,
        _NORMS[norm],
        margin,
        shrink,
        torch.get_num_threads(),
    )
    return rows, status


def move(
    p: torch.Tensor, target: torch.Tensor, epsilon: float, norm: str, style: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Moves the rows of p toward target; returns the rows and the number of invalid ones."""
    p, target = p.contiguous(), target.contiguous()
    out, status = torch.empty_like(p), _status()
    _C.move(
        p.data_ptr(),
        target.data_ptr(),
        out.data_ptr(),
        status.data_ptr(),
        p.shape[0],
        p.shape[1],
        _DTYPES[p.dtype],
        epsilon,
        _NORMS[norm],
        _TRAVELS[style],
        torch.get_num_threads(),
    )
    return out, status


def flip(
    p: torch.Tensor, targets: torch.Tensor | None, rate: float, key: torch.Tensor, style: str
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Flips the rows that the key chooses; returns the rows, their labels and how many are invalid."""
    p, targets = p.contiguous(), _contiguous(targets)
    out, status = torch.empty_like(p), _status()
    labels = torch.empty(p.shape[:1], dtype=torch.int64)
    _C.flip(
        p.data_ptr(),
        _address(targets),
        out.data_ptr(),
        labels.data_ptr(),
        status.data_ptr(),
        p.shape[0],
        p.shape[1],
        _DTYPES[p.dtype],
        rate,
        key.tolist(),
        _EXCHANGES[style],
        torch.get_num_threads(),
    )
    return out, labels, status


def row_bits(
    p: torch.Tensor, key: torch.Tensor, draw: int, grid: float, words: int
) -> torch.Tensor:
    """Returns the rows' keyed words, an int64 tensor ``[N, words]`` with values in [0, 2³²)."""
    p = p.contiguous()
    out = torch.empty((p.shape[0], words), dtype=torch.int64)
    _C.row_bits(
        p.data_ptr(),
        out.data_ptr(),
        p.shape[0],
        p.shape[1],
        _DTYPES[p.dtype],
        key.tolist(),
        draw,
        grid,
        words,
        torch.get_num_threads(),
    )
    return out
