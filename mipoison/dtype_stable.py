"""A module whose tensors keep their dtype."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import Tensor, nn

Self = TypeVar("Self", bound="DtypeStable")


class DtypeStable(nn.Module):
    """Moves between devices but is never cast: `.half()` on a served model must not change a defense's answers."""

    def _apply(self: Self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Applies `.to()`, `.half()` and the like."""

        def move(x: Tensor) -> Tensor:
            moved = fn(x)
            return moved if moved.dtype == x.dtype else x.to(moved.device)

        super()._apply(move, recurse)  # type: ignore[no-untyped-call]
        return self
