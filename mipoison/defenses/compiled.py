"""Defenses in compiled graphs: one opaque operator, so that an answer's bits, and the key, stay out of the compiler.

A compiler fuses and reorders arithmetic, which changes last bits, and its caches would hold the key. A graph holds the
number that a defense goes by in this process instead.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

import torch
from torch import Tensor

if TYPE_CHECKING:
    from mipoison.defenses.base import Defense

_LIBRARY: Final = torch.library.Library("mipoison", "FRAGMENT")
_DEFENSES: Final[WeakValueDictionary[int, Defense]] = WeakValueDictionary()
_NUMBERS: Final = itertools.count()


def handle_of(defense: Defense) -> int:
    """A new number that the defense goes by as long as it lives."""
    handle = next(_NUMBERS)
    _DEFENSES[handle] = defense
    return handle


def _answer(p: Tensor, handle: int) -> Tensor:
    defense = _DEFENSES.get(handle)
    if defense is None:
        raise RuntimeError(
            "expected the defense that this graph was compiled with, got one that is gone; keep it, or compile anew"
        )
    return defense._unread(p)


def _register() -> None:
    _LIBRARY.define("answer(Tensor p, int handle) -> Tensor", tags=(torch.Tag.pt2_compliant_tag,))
    _LIBRARY.impl("answer", _answer, "CompositeExplicitAutograd")
    _LIBRARY.impl("answer", torch.library.fallthrough_kernel, "Autograd")
    torch.library.register_fake(
        "mipoison::answer",
        lambda p, handle: torch.empty_like(p, memory_format=torch.contiguous_format),
        lib=_LIBRARY,
    )


_register()
