"""A module whose tensors keep their dtype, and that takes only tensors that its own `state_dict` could have given."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from itertools import chain
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Self = TypeVar("Self", bound="DtypeStable")


def fault_of(tensor: Tensor, dtypes: Collection[torch.dtype]) -> str | None:
    """What is wrong with a tensor that should have one of the dtypes and finite entries, or None.

    The values of meta tensors are not there to be checked.
    """
    if tensor.layout != torch.strided:
        return f"layout {tensor.layout}"
    if tensor.dtype not in dtypes:
        return str(tensor.dtype).removeprefix("torch.")
    if tensor.is_meta or not tensor.is_floating_point():
        return None
    if bool(tensor.isnan().any()):
        return "NaN"
    return "infinite entries" if bool(tensor.isinf().any()) else None


class DtypeStable(nn.Module):
    """Moves between devices but is never cast: `.half()` on a served model must not change a defense's answers.

    For the same reason `load_state_dict` refuses tensors that were cast on the way.
    """

    def check_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Raises ValueError for tensors with which this module's answers would break its guarantees.

        Args:
            tensors: this module's own parameters and buffers, without those of its children, as they would be after
                loading; their dtypes and shapes are right, and their entries finite.
        """

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        """Checks this module's tensors before the first one is taken."""
        tensors = {}
        for name, old in chain(self._parameters.items(), self._buffers.items()):
            # (What is derived from the others is computed anew.)
            if old is None or name in self._non_persistent_buffers_set:
                continue
            new = state_dict.get(prefix + name, old)
            if not isinstance(new, Tensor):
                found: str | None = type(new).__name__
            elif new.shape != old.shape:
                found = f"shape {tuple(new.shape)}"
            elif new.is_meta and not old.is_meta:
                found = "a meta tensor, which has no numbers"
            else:
                found = fault_of(new, (old.dtype,))
            if found is not None:
                wanted = str(old.dtype).removeprefix("torch.")
                raise ValueError(
                    f"expected finite {wanted} numbers of shape {tuple(old.shape)} in {prefix + name}, got {found}; "
                    "pass what state_dict gave, without a cast, or save the defense and read it with mipoison.load"
                )
            tensors[name] = new
        if not any(x.is_meta for x in tensors.values()):
            self.check_state(tensors)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _apply(self: Self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Applies `.to()`, `.half()` and the like."""

        def move(x: Tensor) -> Tensor:
            moved = fn(x)
            return moved if moved.dtype == x.dtype else x.to(moved.device)

        super()._apply(move, recurse)  # type: ignore[no-untyped-call]
        return self
