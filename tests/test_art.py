"""Baselines against the postprocessors of IBM's Adversarial Robustness Toolbox, where that is installed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from distributions import DISTRIBUTIONS, draw
from torch import Tensor

from mipoison.defenses import Defense, HighConfidence, LabelOnly, ReverseSigmoid, Rounding
from mipoison.reference import label_of

K = 10
theirs = pytest.importorskip(
    "art.defences.postprocessor",
    reason="needs pip install adversarial-robustness-toolbox",
)

# Theirs know no margin.
PAIRS = [
    (LabelOnly(margin=0.0), "ClassLabels", {}),
    (Rounding(1, margin=0.0), "Rounded", {"decimals": 1}),
    (Rounding(3, margin=0.0), "Rounded", {"decimals": 3}),
    (HighConfidence(cutoff=0.05, margin=0.0), "HighConfidence", {"cutoff": 0.05}),
    (HighConfidence(cutoff=0.4, margin=0.0), "HighConfidence", {"cutoff": 0.4}),
    (ReverseSigmoid(margin=0.0), "ReverseSigmoid", {}),
    (
        ReverseSigmoid(beta=0.3, gamma=0.5, margin=0.0),
        "ReverseSigmoid",
        {"beta": 0.3, "gamma": 0.5},
    ),
]


# The reverse sigmoid has no thresholds, and in float32 ART leaves it infinite logits: here it is computed in float64.
CASES = [
    (*pair, dtype)
    for pair in PAIRS
    for dtype in ("float64", "float32", "float16")
    if dtype == "float64" or pair[1] not in ("ReverseSigmoid", "ClassLabels")
]


def rows_of(distribution: str) -> Tensor:
    """As `draw`; or rows of multiples of 0.05, of which every other lies half-way between two decimals."""
    if distribution != "half-way":
        return draw(distribution, 300, K)
    parts = torch.randint(0, K, (300, 20), generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.one_hot(parts, K).sum(1) / torch.tensor(20.0, dtype=torch.float64)


@pytest.mark.parametrize("distribution", [*DISTRIBUTIONS, "half-way"])
@pytest.mark.parametrize(("ours", "kind", "settings", "dtype"), CASES, ids=lambda value: str(value))
def test_the_answers_are_arts_where_its_vectors_keep_the_label(
    ours: Defense, kind: str, settings: dict[str, Any], dtype: str, distribution: str
) -> None:
    p = rows_of(distribution).numpy().astype(dtype)
    postprocess = getattr(theirs, kind)(**settings)
    # Row by row: ClassLabels marks the labels of all rows of a batch in each of them.
    told = np.concatenate([postprocess(p[i : i + 1].copy()) for i in range(len(p))])
    assert told.dtype == p.dtype or kind == "ClassLabels"
    told = told.astype(np.float64)
    total = told.sum(1)
    something = total > 0
    hot = np.eye(K)[label_of(torch.from_numpy(p)).numpy()]
    expected = np.where(something[:, None], told / np.where(something, total, 1)[:, None], hot)
    q = ours(p)
    label = hot.argmax(1)
    kept = expected[np.arange(300), label] >= expected.max(1)
    assert kept.any() or (kind == "ReverseSigmoid" and distribution == "one-hot")
    # Ties at the top are broken here, by an ulp.
    tolerance = {"float64": 1e-12, "float32": 1e-6, "float16": 2e-3}[dtype]
    np.testing.assert_allclose(q[kept], expected[kept], rtol=0, atol=tolerance)
    assert (q.argmax(1) == label).all()
