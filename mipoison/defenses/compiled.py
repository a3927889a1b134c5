"""Defenses in compiled graphs: one opaque operator, so that an answer's bits, and the key, stay out of the compiler.

A compiler fuses and reorders arithmetic, which changes last bits, and its caches would hold the key. A graph holds the
number that a defense goes by in this process instead.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple
from weakref import WeakValueDictionary

import torch
from torch import Tensor

if TYPE_CHECKING:
    from mipoison.defenses.base import Defense

_MARK: Final = "_answering_for_mipoison"


class _Answering(NamedTuple):
    """Kept where no module takes it along when it is imported again.

    Attributes:
        defenses: by number.
        numbers: the next ones.
        library: ends with its object.
    """

    defenses: WeakValueDictionary[int, Defense]
    numbers: Iterator[int]
    library: torch.library.Library


def handle_of(defense: Defense) -> int:
    """A new number that the defense goes by as long as it lives."""
    handle = next(_ANSWERING.numbers)
    _ANSWERING.defenses[handle] = defense
    return handle


def _registered() -> _Answering:
    """Once in a process."""
    found: _Answering | None = vars(torch.ops.mipoison).get(_MARK)
    if found is not None:
        return found
    defenses: WeakValueDictionary[int, Defense] = WeakValueDictionary()

    def answer(p: Tensor, handle: int) -> Tensor:
        defense = defenses.get(handle)
        if defense is None:
            raise RuntimeError(
                "expected the defense that this graph was compiled with, got none: it is gone; keep it, or compile anew"
            )
        return defense._unread(p)

    library = torch.library.Library("mipoison", "FRAGMENT")
    library.define("answer(Tensor p, int handle) -> Tensor", tags=(torch.Tag.pt2_compliant_tag,))
    library.impl("answer", answer, "CompositeExplicitAutograd")
    library.impl("answer", torch.library.fallthrough_kernel, "Autograd")
    torch.library.register_fake(
        "mipoison::answer",
        lambda p, handle: torch.empty_like(p, memory_format=torch.contiguous_format),
        lib=library,
    )
    made = _Answering(defenses, itertools.count(), library)
    setattr(torch.ops.mipoison, _MARK, made)
    return made


_ANSWERING: Final = _registered()
