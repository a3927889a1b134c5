"""Results in the caller's kind of array, and errors for rows that an operation refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

from mipoison.ops.arrays import holds_tensors

Rows = TypeVar("Rows", Tensor, npt.NDArray[np.generic])
Labels: TypeAlias = "Tensor | npt.ArrayLike | None"


def like(result: Tensor, given: Rows) -> Rows:
    """The result in the caller's kind: a tensor for tensors, an ndarray for everything else."""
    return result if holds_tensors(given) else result.numpy()  # type: ignore[return-value]


def refuse(status: Tensor, *checks: Callable[[], None], overwritten: bool = False) -> None:
    """Raises the checks' errors where the operation counted invalid rows; reading the count synchronises."""
    count = read_back(status)
    if count == 0:
        return
    if overwritten:
        raise ValueError(
            f"expected rows that the operation can serve, got {count} that it refused; out shares "
            "memory with the input, which is overwritten, so the rows cannot be named; call without out to see them"
        )
    for find in checks:
        find()
    raise ValueError(
        f"expected rows that the operation can serve, got {count} that it refused though they pass every "
        "check: their sums may lie at the very edge of the tolerance, so renormalise them with "
        "p / p.sum(-1, keepdim=True); if it refuses them still, please report it"
    )


def read_back(number: Tensor) -> int:
    """What a tensor of one entry holds.

    Raises:
        RuntimeError: if it holds nothing that can be read.
    """
    if number.is_meta:
        raise RuntimeError(
            "expected rows with entries, got a meta tensor, which has none to check; pass validate=False"
        )
    try:
        return int(number)
    except RuntimeError as error:
        if "vmap" not in str(error):
            raise
        raise RuntimeError(
            "expected validate=False under torch.vmap, got True: the number of refused rows cannot be read there; "
            "or pass all rows at once, as [N, K]"
        ) from error
