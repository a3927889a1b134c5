"""Times `quantize` against softmax on the same rows, and against torch.cdist on the same codewords."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from bench_rivals import RIVAL_ELEMENTS, first_rows
from contestants import baselines
from distributions import relabelled
from oracle import assert_matches_reference
from rows import peaked
from torch import Tensor


def codewords_of(k: int, words: int) -> Tensor:
    """Peaked codewords, [k, words, k], the largest entry of each swapped to its label."""
    made, _ = peaked.__wrapped__(k, 4 * k * k * words)
    return relabelled(made, torch.arange(k).repeat_interleave(words)).view(k, words, k)


def by_cdist(p: Tensor, codewords: Tensor) -> Callable[[], Tensor]:
    """The nearest codewords of the rows' labels by torch.cdist."""

    def nearest() -> Tensor:
        mine = codewords[p.argmax(1)]
        index = torch.cdist(p.unsqueeze(1), mine, p=1).squeeze(1).argmin(1)
        return mine[torch.arange(len(p)), index]

    return nearest


@pytest.mark.parametrize(("k", "words"), [(10, 4), (10, 16), (100, 8), (1000, 8)])
def test_quantize(versus, nbytes: int, k: int, words: int) -> None:
    p, g = peaked(k, nbytes)
    codewords, out = codewords_of(k, words), torch.full_like(p, math.nan)
    torch.ops.mipoison.quantize_out(p, codewords, None, out)
    assert_matches_reference("quantize", out, p, codewords, None)
    few = first_rows(p, RIVAL_ELEMENTS // words)
    nearest = by_cdist(few, codewords)
    # Where two codewords are about equally near, float32 sums may find the other one nearer.
    same = (nearest() - out[: len(few)]).abs().amax(1) < 1e-5
    assert float(same.double().mean()) > 0.999
    versus(
        {
            "quantize": lambda: torch.ops.mipoison.quantize_out(p, codewords, None, out),
            "quantize, new output": lambda: torch.ops.mipoison.quantize(p, codewords, None),
            **baselines(p, g, out),
            "cdist": nearest,
        },
        operation="quantize",
        group="codewords",
        n=len(p),
        k=k,
        words=words,
        dtype="float32",
        norm="none",
        epsilon=None,
        bytes=2 * p.nbytes,
        rows_timed={"cdist": len(few)},
    )
