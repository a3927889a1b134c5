"""The operations on CUDA tensors, by the Triton kernels in ``kernels/``.

Each function has the signature and the meaning of the operation of the same name; :mod:`mipoison.ops`
has checked the arguments. Triton is imported on the first call.
"""

from __future__ import annotations

import importlib
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch

from mipoison import reference
from mipoison.incomplete import incomplete


@cache
def available() -> bool:
    """Whether Triton is installed; it is not imported."""
    return find_spec("triton") is not None


@cache
def _kernels(module: str) -> Any:
    try:
        return importlib.import_module(f"mipoison.kernels.{module}")
    except ModuleNotFoundError as error:
        if error.name != "mipoison.kernels":
            raise
        raise incomplete("mipoison.kernels", "kernels", error) from None


def project(
    z: torch.Tensor,
    p: torch.Tensor | None,
    t: torch.Tensor | None,
    epsilon: float | None,
    norm: str,
    margin: float,
    shrink: bool,
    out: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Projects the rows of z; returns the rows and the number of invalid ones."""
    with torch.cuda.device_of(z):
        return _kernels("project").project(z, p, t, epsilon, norm, margin, shrink, out)  # type: ignore[no-any-return]


def step(
    q: torch.Tensor,
    g: torch.Tensor,
    p: torch.Tensor | None,
    t: torch.Tensor | None,
    alpha: float,
    epsilon: float | None,
    norm: str,
    margin: float,
    shrink: bool,
    out: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Projects the rows of q + alpha g/||g||₂; returns the rows and the number of invalid ones."""
    with torch.cuda.device_of(q):
        return _kernels("project").step(  # type: ignore[no-any-return]
            q, g, p, t, alpha, epsilon, norm, margin, shrink, out
        )


def keyed_step(
    p: torch.Tensor,
    seen: torch.Tensor | None,
    key: torch.Tensor,
    grid: float,
    alpha: float,
    epsilon: float,
    norm: str,
) -> torch.Tensor:
    """Steps along keyed directions or their opposites: the reference with the kernels for words and steps."""
    return reference.keyed_step(p, seen, key, grid, alpha, epsilon, norm, row_bits, step)


def move(
    p: torch.Tensor, target: torch.Tensor, epsilon: float | None, norm: str, style: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Moves the rows of p toward target; returns the rows and the number of invalid ones."""
    with torch.cuda.device_of(p):
        return _kernels("move").move(p, target, epsilon, norm, style)  # type: ignore[no-any-return]


def flip(
    p: torch.Tensor, targets: torch.Tensor | None, rate: float, key: torch.Tensor, style: str
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Flips the rows that the key chooses; returns the rows, their labels and how many are invalid."""
    with torch.cuda.device_of(p):
        return _kernels("flip").flip(p, targets, rate, key, style)  # type: ignore[no-any-return]


def row_bits(
    p: torch.Tensor, key: torch.Tensor, draw: int, grid: float, words: int
) -> torch.Tensor:
    """Returns the rows' keyed words, an int64 tensor ``[N, words]`` with values in [0, 2³²)."""
    with torch.cuda.device_of(p):
        return _kernels("words").row_bits(p, key, draw, grid, words)  # type: ignore[no-any-return]


def quantize(
    p: torch.Tensor,
    codewords: torch.Tensor,
    offsets: torch.Tensor | None,
    out: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Finds nearest codewords; returns the rows, the codewords' numbers and how many rows are invalid."""
    with torch.cuda.device_of(p):
        return _kernels("quantize").quantize(p, codewords, offsets, out)  # type: ignore[no-any-return]


def recover(
    p: torch.Tensor, network: torch.Tensor, members: int, width: int, outputs: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Evaluates small networks; returns what they recover and how many rows are invalid."""
    with torch.cuda.device_of(p):
        return _kernels("network").recover(p, network, members, width, outputs)  # type: ignore[no-any-return]


def pull(
    q: torch.Tensor,
    goal: torch.Tensor,
    network: torch.Tensor,
    members: int,
    width: int,
    smooth: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Finds gradients of half the squared distance; returns them, the distances and how many rows are invalid."""
    with torch.cuda.device_of(q):
        return _kernels("network").pull(q, goal, network, members, width, smooth)  # type: ignore[no-any-return]


def perturb(p: torch.Tensor, *rest: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Steps against that gradient; returns the rows and how many are invalid. For the arguments see the schema."""
    with torch.cuda.device_of(p):
        return _kernels("perturb").perturb(p, *rest)  # type: ignore[no-any-return]
