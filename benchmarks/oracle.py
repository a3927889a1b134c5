"""Compares each operation with the float64 reference before it is timed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mipoison.ops.library import REFERENCE

# The tolerances of the tests. Keyed words are integers and must agree bit for bit.
TOLERANCE = {
    torch.float64: 1e-9,
    torch.float32: 5e-7,
    torch.float16: 2.0**-10,
    torch.bfloat16: 2.0**-7,
    torch.int64: 0.0,
}
MOST_ROWS = 100
MOST_ELEMENTS = 100_000


def assert_matches_reference(operation: str, ours: Tensor, *arguments: Any) -> None:
    """Compares the first rows of an operation's result with the reference on the same arguments.

    Raises:
        AssertionError: if an entry differs by more than the tolerance of its dtype.
    """
    few = max(1, min(MOST_ROWS, MOST_ELEMENTS // arguments[0].shape[1]))
    first = [x[:few] if isinstance(x, Tensor) and x.ndim == 2 else x for x in arguments]
    theirs = REFERENCE[operation](*first)
    theirs = theirs[0] if isinstance(theirs, tuple) else theirs
    worst = float((ours[:few].to(torch.float64) - theirs.to(torch.float64)).abs().max())
    assert worst <= TOLERANCE[ours.dtype], (
        f"expected {operation} within {TOLERANCE[ours.dtype]:g} of the reference, got {worst:g}"
    )
