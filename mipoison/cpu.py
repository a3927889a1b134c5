"""The compiled kernels in ``csrc/``: their registration, and the choice of instruction set.

Operations go through torch's dispatcher, which calls the kernels from C++ (``csrc/operators.h``):
going through Python would take longer than a small kernel.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

import torch

from mipoison.incomplete import incomplete

try:
    from mipoison import _C
except ImportError as _error:
    raise incomplete("mipoison._C", "_C", _error) from None


def register_operators(gradient_refusal: str) -> None:
    """Registers the compiled operators for CPU tensors in torch's dispatcher.

    Args:
        gradient_refusal: what those with out= say of an argument that requires grad.
    """
    _C.register_operators(torch._C.__file__, gradient_refusal)


def instruction_set() -> str:
    """Returns the instruction set of the kernels in use: the widest that this processor has."""
    return _C.instruction_set()


def instruction_sets() -> tuple[str, ...]:
    """Returns the instruction sets that were compiled and that this processor has, widest first."""
    return tuple(_C.instruction_sets())


class StandardFloats:
    """A region in which the calling thread rounds to nearest and keeps subnormal numbers, as the kernels do.

    `torch.set_flush_denormal(True)`, a rounding mode, or a library linked with -ffast-math would change torch's results
    for very small entries.
    """

    __slots__ = ("_before",)

    def __enter__(self) -> None:
        self._before = _C.set_standard_floats()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        _C.give_back_floats(self._before)


@contextmanager
def using(name: str) -> Iterator[None]:
    """A region in which the process uses another instruction set, for tests and comparisons.

    Raises:
        ValueError: if this machine or this build has no such kernels.
    """
    before = _C.instruction_set()
    _C.use_instruction_set(name)
    try:
        yield
    finally:
        _C.use_instruction_set(before)
