"""LFP in one call."""

from __future__ import annotations

from mipoison.defenses.lfp.defense import LFP
from mipoison.keys import KeyLike
from mipoison.ops.answers import Rows
from mipoison.ops.identity import Ids
from mipoison.surrogate import Surrogate


def lfp(
    outputs: Rows,
    surrogate: Surrogate | None = None,
    *,
    rate: float = 0.01,
    style: str = "swap",
    max_rate: float = 1.0,
    key: KeyLike = None,
    ids: Ids = None,
) -> Rows:
    """Label-flipping poisoning in one call: keyed rows get the label that misleads the surrogate most.

    Without a surrogate the new label is drawn uniformly by key. Choosing rows of lowest margin needs `LFP.fit`.

    Args:
        outputs: confidence vectors, [N, K]; float32, float64, float16 or bfloat16; tensor,
            array, or what `numpy.asarray` takes.
        surrogate: inversion models from `Surrogate.fit`.
        rate: share of distinct rows flipped, in [0, 1].
        style: "swap" or "project", see `mipoison.flip`.
        max_rate: a rate above it is refused.
        key: 16 bytes or more, an int (for experiments) or None (one secret per process).
        ids: identities of the requests to key on instead of the rows, see `Defense.forward`.

    Returns:
        the rows, [N, K] of the same dtype and kind, as `Defense.forward` says.

    Raises:
        TypeError: for a wrong kind, dtype or key.
        ValueError: for wrong shapes and ranges, or rows that are no probability vectors; names the
            rows.

    Example:
        >>> import mipoison as mp, torch
        >>> q = mp.lfp(torch.tensor([[0.7, 0.2, 0.1]]), rate=1.0, key=0)
        >>> int(q.argmax()) != 0
        True
    """
    targets = "random" if surrogate is None else "surrogate"
    defense = LFP(
        rate=rate, targets=targets, style=style, max_rate=max_rate, surrogate=surrogate, key=key
    )
    return defense(outputs, ids=ids)  # type: ignore[no-any-return]
