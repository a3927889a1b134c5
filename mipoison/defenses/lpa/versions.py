"""Whether tensors are those that something was computed from."""

from __future__ import annotations

from typing import TypeAlias

from torch import Tensor

# Each tensor, and how often it had been written to.
Versions: TypeAlias = tuple[tuple[Tensor, int], ...]


def versions(*tensors: Tensor) -> Versions:
    """The tensors as they are now; inference tensors do not count what is written to them."""
    return tuple((x, 0 if x.is_inference() else x._version) for x in tensors)


def same(now: Versions, then: Versions) -> bool:
    """Whether they are the same objects, and nothing was written to them."""
    return len(now) == len(then) and all(
        a is b and count == before for (a, count), (b, before) in zip(now, then, strict=True)
    )
