"""What goes over the wire: defended rows, rounded to decimals whose sum is exact, or their largest entries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from mipoison.defenses.base import Defense, unrecorded
from mipoison.defenses.decimals import bounded, decimal_counts, exact_sum, farthest
from mipoison.defenses.deferred import Deferred
from mipoison.defenses.pieces import ROWS, pieces
from mipoison.exporting import exporting
from mipoison.neutral import neutral
from mipoison.ops.answers import Rows, like
from mipoison.ops.identity import Ids
from mipoison.ops.validation import as_count, as_part, as_rows

# With more, the unit would be finer than what the rows of float32 are known to.
MOST_DECIMALS: Final = 9
# The most of a ball's radius that rounding may take: a row that it would carry out keeps at least the rest of its move.
_ROOM: Final = 0.5


class TopK(NamedTuple):
    """The largest entries of defended rows.

    Attributes:
        values: [N, k], in descending order; of equal ones the lowest class first.
        classes: int64 [N, k]; the first is the label.
        rest: [N], what the other entries sum to.
    """

    values: Any
    classes: Any
    rest: Any


# So that torch.export.save knows it; the public function for that takes no named tuples.
torch.utils._pytree._register_namedtuple(TopK, serialized_type_name="mipoison.TopK")


def require_wire(
    defense: Defense | Deferred,
    decimals: int | None,
    top_k: int | None,
    classes: int | None = None,
) -> tuple[int | None, int | None]:
    """Checks what can be checked before a row is answered.

    Args:
        defense: the defense; a `Deferred` is not loaded, and only the ranges are checked unless K is given.
        decimals: see `on_the_wire`.
        top_k: see `on_the_wire`.
        classes: K, if it is known; else that of the defense, if it was fitted.

    Returns:
        decimals and top_k.

    Raises:
        ValueError: for decimals outside [1, 9], or so few that rounding can move a row by more than half of the
            defense's epsilon; for a top_k outside [1, K].
    """
    k = classes
    if k is None and not isinstance(defense, Deferred):
        k = defense.classes
    if top_k is not None:
        top_k = as_count("top_k", top_k, 1)
        if k is not None and top_k > k:
            raise ValueError(f"expected top_k of at most K={k} classes, got {top_k}")
    if decimals is None:
        return None, top_k
    decimals = as_count("decimals", decimals, 1)
    if decimals > MOST_DECIMALS:
        raise ValueError(
            f"expected decimals in [1, {MOST_DECIMALS}], got {decimals}; leave it out (None) for all digits"
        )
    if k is None:
        return decimals, top_k
    epsilon, norm = (defense.defense if isinstance(defense, Deferred) else defense).ball
    if bounded(epsilon, norm) is None:
        return decimals, top_k
    enough = [d for d in range(1, MOST_DECIMALS + 1) if farthest(k, d, norm) <= _ROOM * epsilon]
    if decimals not in enough:
        mend = f"use decimals={enough[0]} or more" if enough else "use decimals=None"
        raise ValueError(
            f"expected decimals that move rows of K={k} classes by half of epsilon={epsilon:g} ({norm}) at most, got "
            f"{decimals}, whose rounding can move one by {farthest(k, decimals, norm):.2g}; {mend}"
        )
    return decimals, top_k


def on_the_wire(
    defense: Defense | Deferred,
    outputs: Rows,
    *,
    decimals: int | None = None,
    top_k: int | None = None,
    ids: Ids = None,
    validate: bool = True,
) -> Rows | TopK:
    """Defended rows as a client gets them.

    Args:
        defense: any defense of this package, or a `Deferred`.
        outputs: see `Defense.forward`.
        decimals: d in [1, 9]: every entry is a whole multiple of 10⁻ᵈ, and the entries sum to exactly one. The label
            leads by 10⁻ᵈ or more, and the answer stays in the defense's ball (to 2e-7). None: not rounded.
        top_k: only the k largest entries, in order, and the sum of the others. None: all entries.
        ids: see `Defense.forward`.
        validate: see `Defense.forward`.

    Returns:
        [N, K] or a `TopK`, of the caller's kind. With decimals the numbers are float64 whatever the dtype of the
        outputs: the nearest ones to the decimals, which JSON and `repr` write with no more than d of them. Without,
        they have the dtype of the outputs.

    Raises:
        TypeError: as `Defense.forward`.
        ValueError: as `Defense.forward` and `require_wire`.
        RuntimeError: as `Defense.forward`.

    Example:
        >>> import torch
        >>> from mipoison.defenses import Rounding
        >>> from mipoison.defenses.wire import on_the_wire
        >>> p = torch.tensor([[0.33335, 0.33335, 0.3333]])
        >>> on_the_wire(Rounding(5), p, decimals=3).tolist()
        [[0.334, 0.333, 0.333]]
        >>> top = on_the_wire(Rounding(5), p, decimals=3, top_k=1)
        >>> top.classes.tolist(), top.values.tolist(), top.rest.tolist()
        ([[0]], [[0.334]], [0.666])
    """
    if isinstance(defense, Deferred):
        defense = defense.defense
    as_part("defense", defense, Defense, "mp.LPA.fit")  # type: ignore[type-abstract]
    # (Torch sums rows of another memory layout in another order.)
    p = as_rows("outputs", outputs).detach().contiguous()
    decimals, top_k = require_wire(defense, decimals, top_k, defense.classes or p.shape[1])
    answers = defense(outputs, ids=ids, validate=validate)
    if decimals is None and top_k is None:
        return answers  # type: ignore[no-any-return]
    with unrecorded():
        found = _in_pieces(
            lambda q, p: _served(defense, q, p, decimals, top_k), as_rows("answers", answers), p
        )
    if top_k is None:
        return like(found[0], outputs)
    return TopK(*(like(part, outputs) for part in found))


def _in_pieces(
    function: Callable[[Tensor, Tensor], tuple[Tensor, ...]], q: Tensor, p: Tensor
) -> tuple[Tensor, ...]:
    """The function of a few rows at a time, so that a large batch needs little memory beside its answers."""
    if exporting() or torch.compiler.is_compiling():
        return function(q, p)
    with neutral(p.device):
        made = [function(q[part], p[part]) for part in pieces(p, ROWS)]
        return made[0] if len(made) == 1 else tuple(torch.cat(x) for x in zip(*made, strict=True))


def _served(
    defense: Defense, q: Tensor, p: Tensor, decimals: int | None, top_k: int | None
) -> tuple[Tensor, ...]:
    """The entries, or values, classes and rest."""
    if decimals is None:
        assert top_k is not None
        # (Stable: of equal entries the lowest index stays first.)
        ordered = q.sort(dim=-1, descending=True, stable=True)
        values, classes = ordered.values[:, :top_k], ordered.indices[:, :top_k]
        rest = exact_sum(ordered.values[:, top_k:]).squeeze(-1).to(q.dtype)
        return values.contiguous(), classes.contiguous(), rest
    units = 10**decimals
    counts = _counts(defense, q, p, decimals)
    if top_k is None:
        return (counts.to(torch.float64) / units,)
    # No two keys are equal, and the label leads.
    k = counts.shape[1]
    classes = ((counts * k) + (k - 1 - torch.arange(k, device=p.device))).topk(top_k).indices
    top = counts.gather(-1, classes)
    rest = units - top.sum(-1)
    return top.to(torch.float64) / units, classes, rest.to(torch.float64) / units


def _counts(defense: Defense, q: Tensor, p: Tensor, decimals: int) -> Tensor:
    """The answers in units of 10⁻ᵈ; in compiled graphs by one operator, since a compiler changes last bits."""
    epsilon, norm = defense.ball
    radius, keeps = bounded(epsilon, norm), defense.keeps_labels
    if torch.compiler.is_compiling() and not exporting():
        counts: Tensor = torch.ops.mipoison.decimals(q, p, decimals, radius, norm, keeps)
        return counts
    return decimal_counts(q, p, decimals, radius, norm, keeps)
