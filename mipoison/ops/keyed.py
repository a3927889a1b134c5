"""The keyed operations: label flips, and the random words of a row.

`mipoison.random` is the reference: it says how a row is hashed to a cell, and how words are drawn for the cell.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from mipoison.forked import fork_safe
from mipoison.keys import Key, KeyLike, resolve_key
from mipoison.ops import validation as check
from mipoison.ops.answers import Labels, Rows, like, refuse
from mipoison.ops.backends import pick
from mipoison.ops.identity import Ids, RequestKey, request_key
from mipoison.ops.projection import project
from mipoison.reference import label_of
from mipoison.reference.flip import labels_drawn
from mipoison.reference.rounding import lead

# Entries that differ by less, or by an ulp of their dtype, count as equal.
_EQUAL: Final = 1e-6
# Of one call, for each row.
_MOST_WORDS: Final = 1 << 20


@fork_safe
def flip(
    p: Rows,
    *,
    targets: Labels = None,
    rate: float,
    key: KeyLike = None,
    style: str = "swap",
    margin: float = 1e-3,
    ids: Ids = None,
    validate: bool = True,
    backend: str | None = None,
) -> tuple[Rows, Rows]:
    """Flips the label of a keyed share of the rows (LFP's operation).

    The choice is a function of (key, row), see `row_bits`: the rate is over distinct rows, and a
    repeated row gets the same answer.

    Args:
        p: probability vectors, [N, K]; see `project` for kinds and dtypes.
        targets: the label a selected row is flipped to, integers [N]; −1 or the row's label keeps
            the row. Default: uniform over the other labels, keyed.
        rate: share of rows selected, in [0, 1].
        key: 16 bytes or more, an int (for experiments) or None (one secret per process).
        style: "swap": exchanges the entries of the old and the new label, which leaves the sorted
            vector the same; "project": the nearest vector in which the new label leads by margin.
        margin: in [0, 1], by which a new label leads with style "project", and with "swap" where
            the two entries are equal to 1e-6, or to an ulp in 16 bits, so that to swap them would change nothing.
        ids: see `row_bits`; the choice is then a function of (key, id).
        validate: as in `project`.
        backend: as in `project`.

    Returns:
        the rows [N, K] of p's kind and dtype, without derivative in any mode since p is detached, and the labels
        served, int64 [N].

    Raises:
        TypeError: for a wrong kind, dtype or key.
        ValueError: for wrong shapes and ranges, or rows that are no probability vectors.

    Example:
        >>> import mipoison as mp, torch
        >>> q, labels = mp.flip(torch.tensor([[0.7, 0.2, 0.1]]), targets=[1], rate=1.0, key=0)
        >>> q, labels
        (tensor([[0.2000, 0.7000, 0.1000]]), tensor([1]))
    """
    rows = check.as_rows("p", p).detach()
    new = None if targets is None else check.as_labels("targets", targets, rows)
    share = check.as_number("rate", rate, 0.0, 1.0)
    check.as_choice("style", style, ("swap", "project"))
    ahead = check.as_number("margin", margin, 0.0, 1.0)
    secret = request_key(resolve_key(key), ids, rows)
    drawn, rate = new, share
    if isinstance(secret, RequestKey):
        # The rows are chosen here, and the operation flips all of them.
        words, k = keyed_bits(rows, secret, 0, 0.0, 4, backend), rows.shape[1]
        drawn, rate = labels_drawn(words, label_of(rows), new, share, k), 1.0
        if new is not None:
            # An invalid label stays invalid, so that the operation refuses it.
            drawn = torch.where((new < -1) | (new >= k), new, drawn)
    q, labels, status = pick("flip", backend, rows)(rows, drawn, rate, secret.tensor(), style)
    if check.as_flag("validate", validate):
        checks: list[Callable[[], None]] = [lambda: check.require_probabilities("p", rows)]
        if new is not None:
            checks.append(lambda: check.require_range("targets", new, -1, rows.shape[1]))
        refuse(status, *checks)
    if ahead > 0:
        rounding = max(_EQUAL, torch.finfo(q.dtype).eps)
        enough = ahead if style == "project" else min(ahead, rounding)
        ties = (labels != label_of(rows)) & (lead(q, labels) < enough)
        if not validate or bool(ties.any()):
            apart = project(q, label=labels, margin=ahead, validate=False, backend=backend)
            q = torch.where(ties.unsqueeze(-1), apart, q)
    return like(q, p), like(labels, p)


@fork_safe
def row_bits(
    p: Rows,
    *,
    key: KeyLike = None,
    draw: int = 0,
    grid: float = 0.0,
    words: int = 4,
    ids: Ids = None,
    backend: str | None = None,
) -> Rows:
    """The row's keyed random words: Philox4x32-10 on a hash of the row, the same bits on every backend.

    Args:
        p: rows, [N, K]; see `project` for kinds and dtypes. float64 rows are hashed by their
            float32 rounding.
        key: 16 bytes or more, an int (for experiments) or None (one secret per process).
        draw: index of the first block of four words, in [0, 2³²).
        grid: cell width of the hash, 0 or in [1e-9, 1]: rows in the same cells share their words. 0 for the
            finest cells that a classifier's rounding noise does not change: of one input answered
            in batches of several sizes, fewer than one row in 10⁴ gets other words (float32).
        words: how many words a row.
        ids: identities of the requests, N ints (64 bits), bytes or str, to draw from (key, id)
            instead of (key, row); the grid is then ignored. Rows of one id share their words, so a
            row has one answer for each id. Use ids that clients cannot choose (an account, not a
            request number): a client with many ids can average the answers.
        backend: as in `project`.

    Returns:
        int64 [N, words] with entries in [0, 2³²), of p's kind.

    Raises:
        TypeError: for a wrong kind, dtype or key.
        ValueError: for wrong shapes and ranges.

    Example:
        >>> import mipoison as mp, torch
        >>> p = torch.tensor([[0.70, 0.30], [0.71, 0.29]])
        >>> a, b = mp.row_bits(p, key=0, grid=0.25)
        >>> torch.equal(a, b)
        True
    """
    rows = check.as_rows("p", p).detach()
    cell = check.as_grid(grid)
    first = check.as_draw(draw)
    count = check.as_count("words", words, 1)
    if count > _MOST_WORDS:
        raise ValueError(
            f"expected words <= {_MOST_WORDS}, got {words}; ask for further ones with draw="
        )
    if first + -(-count // 4) > 2**32:
        # (Words beyond the last block would be those of the first.)
        raise ValueError(
            f"expected draw and words to end within 2**32 blocks of four words, got draw={first} and words={count}"
        )
    secret = request_key(resolve_key(key), ids, rows)
    bits = keyed_bits(rows, secret, first, cell, count, backend)
    return like(bits, p)


def keyed_bits(
    rows: Tensor, secret: Key, draw: int, grid: float, words: int, backend: str | None = None
) -> Tensor:
    """The operator on the rows, or on the ids that the key is bound to; arguments are not checked."""
    seen, grid = _seen(rows, secret, grid)
    seen = rows if seen is None else seen
    bits: Tensor = pick("row_bits", backend, rows)(seen, secret.tensor(), draw, grid, words)
    return bits


def keyed_step(
    rows: Tensor, secret: Key, grid: float, *, alpha: float, epsilon: float, norm: str
) -> Tensor:
    """One projected step along a keyed direction or its opposite, see `reference.keyed_step`; [N, K]."""
    seen, grid = _seen(rows, secret, grid)
    stepped: Tensor = torch.ops.mipoison.keyed_step(
        rows, seen, secret.tensor(), grid, alpha, epsilon, norm
    )
    return stepped


def _seen(rows: Tensor, secret: Key, grid: float) -> tuple[Tensor | None, float]:
    """The ids that the key is bound to, or None for the rows, and the width of the cells that are hashed."""
    # At grid 1 each id, which consists of integers, has a cell of its own.
    return (secret.of(rows), 1.0) if isinstance(secret, RequestKey) else (None, grid)
