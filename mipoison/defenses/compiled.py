"""Defenses in compiled graphs: one opaque operator, which keeps an answer's bits and the key away from the compiler.

A compiler fuses and reorders arithmetic, which changes the last bits, and its caches would hold the key. So a graph
holds only a number that stands for the defense in this process.
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
    """State of this process, kept where it survives a second import of the package.

    Attributes:
        defenses: by number.
        numbers: iterator of new numbers.
        library: its operators live as long as the object.
    """

    defenses: WeakValueDictionary[int, Defense]
    numbers: Iterator[int]
    library: torch.library.Library


def handle_of(defense: Defense) -> int:
    """A new number for the defense, valid as long as the defense lives."""
    handle = next(_ANSWERING.numbers)
    _ANSWERING.defenses[handle] = defense
    return handle


def _registered() -> _Answering:
    """The state of this process, made on the first call."""
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
