"""The choice of the implementation that serves a call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor

from mipoison import cpu, gpu
from mipoison.ops import library

NAMES: Final = ("reference", "cpp", "triton")


def backends() -> dict[str, bool | str]:
    """The backends available here: for each False, True, or the instruction set in use.

    Example:
        >>> import mipoison as mp
        >>> mp.backends()["reference"]
        True
    """
    triton = gpu.available() and torch.cuda.is_available()
    return {"reference": True, "cpp": cpu.instruction_set(), "triton": triton}


def pick(operation: str, backend: str | None, tensor: Tensor) -> Callable[..., Any]:
    """The callable that serves the operation on this tensor.

    Raises:
        ValueError: for a backend that does not exist.
        RuntimeError: for a backend that cannot serve this tensor.
    """
    if backend is None:
        return getattr(torch.ops.mipoison, operation)  # type: ignore[no-any-return]
    if backend == "reference":
        return library.forced(operation, backend)
    if backend == "cpp":
        if tensor.device.type != "cpu":
            raise RuntimeError(
                f"backend 'cpp' serves CPU tensors, got one on {tensor.device}; "
                "move it with .cpu(), or leave backend=None"
            )
        return library.CPP[operation]
    if backend == "triton":
        if tensor.device.type != "cuda":
            raise RuntimeError(
                f"backend 'triton' serves CUDA tensors, got one on {tensor.device}; "
                "move it with .cuda(), or leave backend=None"
            )
        if not gpu.available():
            raise RuntimeError(
                "backend 'triton' needs Triton, which is not installed; pip install 'mipoison[gpu]'"
            )
        return library.forced(operation, backend)
    raise ValueError(f"expected backend to be None or one of {NAMES}, got {backend!r}")
