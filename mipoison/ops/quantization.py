"""The nearest codeword of a row's label."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mipoison.forked import fork_safe
from mipoison.ops import validation as check
from mipoison.ops.answers import Rows, like, refuse
from mipoison.ops.arrays import as_float32
from mipoison.ops.backends import pick
from mipoison.ops.destination import as_destination, overwrites, require_apart
from mipoison.reference.quantize import usable_codewords


@fork_safe
def quantize(
    p: Rows,
    codewords: Rows,
    offsets: Any = None,
    *,
    out: Rows | None = None,
    validate: bool = True,
    backend: str | None = None,
) -> tuple[Rows, Rows]:
    """Argmin_m ‖p − c_tm‖₁ + o_tm: the nearest codeword of each row's label t, each with an additive offset.

    Distances are compared in whole units of 2⁻²⁹, and what is left over of an entry is cut off. So all backends answer
    with the same codeword, and of equally near ones with the first.

    Args:
        p: probability vectors, [N, K]; see `project` for kinds and dtypes. They are not renormalised.
        codewords: c, for each label t so many probability vectors in which no entry is above that of t, float32
            [K, M, K].
        offsets: o in [0, 1], float32 [K, M]; default: none.
        out: where the answers are written, of p's kind, shape, dtype and device. It may be p itself; see `project`.
        validate: as in `project`.
        backend: as in `project`.

    Returns:
        the answers [N, K] of p's kind and dtype, renormalised, each with a strict label and without derivative in any
        mode; and the numbers m of their codewords, int64 [N]. With validate=False refused rows get the safe answer and
        number −1; so do rows with a label of which a codeword or an offset is refused.

    Raises:
        TypeError: for a wrong kind or dtype.
        ValueError: for wrong shapes, rows that are no probability vectors, or codewords or offsets that are none; names
            the rows or the labels.

    Example:
        >>> import mipoison as mp, torch
        >>> codewords = torch.tensor([[[0.6, 0.4], [0.9, 0.1]], [[0.4, 0.6], [0.1, 0.9]]])
        >>> q, m = mp.quantize(torch.tensor([[0.7, 0.3], [0.2, 0.8]]), codewords)
        >>> q, m
        (tensor([[0.6000, 0.4000],
                [0.1000, 0.9000]]), tensor([0, 1]))
    """
    rows = check.as_rows("p", p).detach()
    k = rows.shape[1]
    words = as_float32("codewords", codewords, rows)
    if words.ndim != 3 or words.shape[1] < 1 or (words.shape[0], words.shape[2]) != (k, k):
        raise ValueError(
            f"expected codewords of shape ({k}, M, {k}) with M >= 1, those of each label in turn, got "
            f"{tuple(words.shape)}"
        )
    more = None if offsets is None else as_float32("offsets", offsets, rows)
    if more is not None and more.shape != words.shape[:2]:
        raise ValueError(
            f"expected offsets of shape {tuple(words.shape[:2])}, one for each codeword, got {tuple(more.shape)}"
        )
    overwritten = False
    if out is not None:
        into = as_destination(out, p, rows)
        require_apart(into, codewords=words, offsets=more)
        overwritten = overwrites(into, p=rows)
        number, status = pick("quantize_out", backend, rows)(rows, words, more, into)
    else:
        q, number, status = pick("quantize", backend, rows)(rows, words, more)
    if check.as_flag("validate", validate):
        refuse(
            status,
            lambda: _require_usable(words, more),
            lambda: check.require_probabilities("p", rows),
            overwritten=overwritten,
        )
    return (like(q, p) if out is None else out), like(number, p)


def _require_usable(codewords: Tensor, offsets: Tensor | None) -> None:
    """Raises ValueError naming the labels of which a codeword or an offset is none."""
    bad = ~usable_codewords(codewords, offsets)
    if bool(bad.any()):
        labels = ", ".join(map(str, bad.nonzero().flatten().tolist()[:5]))
        raise ValueError(
            "expected codewords to be probability vectors in which no entry is above that of their label, with offsets "
            f"in [0, 1], got others for the labels {labels}"
        )
