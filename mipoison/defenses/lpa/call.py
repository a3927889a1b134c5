"""LPA in one call."""

from __future__ import annotations

import functools
from typing import Final

import torch

from mipoison.defenses.lpa.ascent import Ascent
from mipoison.defenses.lpa.defense import LPA
from mipoison.defenses.lpa.direction import Direction
from mipoison.keys import Key, KeyLike, resolve_key
from mipoison.ops.answers import Rows
from mipoison.ops.identity import Ids
from mipoison.ops.validation import NORMS, as_choice, as_number
from mipoison.surrogate import Surrogate

# It has no state.
_DIRECTION: Final = Direction()


@functools.lru_cache(maxsize=1)
def _defense(epsilon: float, norm: str, key: Key) -> LPA:
    """The defense of the last call, and its key: making one takes as long as an answer to a row."""
    return LPA(_DIRECTION, epsilon=epsilon, norm=norm, key=key)


def lpa(
    outputs: Rows,
    surrogate: Surrogate | None = None,
    *,
    epsilon: float = 0.2,
    norm: str = "l1",
    key: KeyLike = None,
    ids: Ids = None,
) -> Rows:
    """Label-preserving poisoning in one call.

    With a surrogate the objective is "ascent", which needs no bank. Without one it is a keyed
    direction, the weakest form. `LPA.fit` has stronger objectives, which need data.

    Args:
        outputs: confidence vectors, [N, K]; float32, float64, float16 or bfloat16; tensor,
            array, or what `numpy.asarray` takes.
        surrogate: inversion models from `Surrogate.fit`.
        epsilon: radius in (0, 2] of each row's ball.
        norm: "l1", "l2" or "linf".
        key: see `LPA`.
        ids: identities of the requests to key on instead of the rows, see `Defense.forward`.

    Returns:
        the poisoned rows, [N, K] of the same dtype and kind, as `Defense.forward` says, every label kept.

    Raises:
        TypeError: for a wrong kind, dtype or key.
        ValueError: for wrong shapes and ranges, or rows that are no probability vectors; names the
            rows.

    Example:
        >>> import mipoison as mp, torch
        >>> q = mp.lpa(torch.tensor([[0.7, 0.2, 0.1]]), epsilon=0.1, key=0)
        >>> int(q.argmax())
        0
    """
    radius = as_number("epsilon", epsilon, 0.0, 2.0, open_low=True)
    norm = as_choice("norm", norm, NORMS)
    if surrogate is None and not torch.compiler.is_compiling():
        defense = _defense(radius, norm, resolve_key(key))
    else:
        objective = _DIRECTION if surrogate is None else Ascent(surrogate)
        defense = LPA(objective, epsilon=radius, norm=norm, key=key)
    return defense(outputs, ids=ids)  # type: ignore[no-any-return]
