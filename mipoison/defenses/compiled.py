"""Defenses in compiled graphs: one opaque operator, which keeps an answer's bits and the key away from the compiler.

A compiler fuses and reorders arithmetic, which changes the last bits, and its caches would hold the key. So a graph
holds only a number that stands for the defense in this process. The softmax of a classifier's logits is an operator,
too: answers would differ with its last bits.
"""

from __future__ import annotations

import functools
import itertools
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar, cast
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from mipoison.defenses.clean import softmax_of
from mipoison.defenses.decimals import decimal_counts
from mipoison.neutral import neutral

if TYPE_CHECKING:
    from mipoison.defenses.base import Defense

_MARK: Final = "_answering_for_mipoison"

_Call = TypeVar("_Call", bound=Callable[..., Any])


def _watched() -> bool:
    """Whether the compiler, which is imported, looks at the calls of this thread; what it traces it does look at."""
    return torch._C._dynamo.eval_frame.get_eval_frame_callback() is not None


def outside_graphs(call: _Call) -> _Call:
    """Leaves a function, and all that it calls, out of torch.compile: the graph breaks there.

    torch.compiler.disable does that. It imports the compiler, and with it triton, so it is asked where the compiler is
    imported already.
    """
    # (A cache of functools, seen by the compiler, would make it warn.)
    disabled: list[Callable[..., Any]] = []

    @functools.wraps(call)
    def outside(*args: Any, **kwargs: Any) -> Any:
        if "torch._dynamo" not in sys.modules or not _watched():
            return call(*args, **kwargs)
        if not disabled:
            disabled.append(torch.compiler.disable(call))
        return disabled[0](*args, **kwargs)

    # The mark that torch.compiler.disable leaves. Alone it would let the functions be compiled that are called here.
    outside._torchdynamo_disable = True  # type: ignore[attr-defined]
    return cast(_Call, outside)


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

    def decimals(q: Tensor, p: Tensor, *options: Any) -> Tensor:
        with torch.no_grad(), neutral(p.device):
            return decimal_counts(q, p, *options)

    def like_rows(p: Tensor, *_: Any) -> Tensor:
        return torch.empty_like(p, memory_format=torch.contiguous_format)

    library = torch.library.Library("mipoison", "FRAGMENT")
    for schema, call, shape in (
        ("answer(Tensor p, int handle) -> Tensor", answer, like_rows),
        ("softmax_of(Tensor logits, float temperature) -> Tensor", softmax_of, like_rows),
        (
            "decimals(Tensor q, Tensor p, int decimals, float? epsilon, str norm, bool keeps) -> Tensor",
            decimals,
            lambda q, *_: like_rows(q).to(torch.int64),
        ),
    ):
        name = schema.partition("(")[0]
        library.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
        library.impl(name, call, "CompositeExplicitAutograd")
        library.impl(name, torch.library.fallthrough_kernel, "Autograd")
        torch.library.register_fake(f"mipoison::{name}", shape, lib=library)
    made = _Answering(defenses, itertools.count(), library)
    setattr(torch.ops.mipoison, _MARK, made)
    return made


_ANSWERING: Final = _registered()
