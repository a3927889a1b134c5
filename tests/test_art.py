"""Baselines against the postprocessors of IBM's Adversarial Robustness Toolbox, where that is installed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from distributions import DISTRIBUTIONS, draw

from mipoison.defenses import Defense, HighConfidence, LabelOnly, ReverseSigmoid, Rounding
from mipoison.reference import label_of

K = 10
theirs = pytest.importorskip(
    "art.defences.postprocessor",
    reason="needs pip install adversarial-robustness-toolbox",
)

PAIRS = [
    (LabelOnly(), "ClassLabels", {}),
    (Rounding(1), "Rounded", {"decimals": 1}),
    (Rounding(3), "Rounded", {"decimals": 3}),
    (HighConfidence(cutoff=0.05), "HighConfidence", {"cutoff": 0.05}),
    (HighConfidence(cutoff=0.4), "HighConfidence", {"cutoff": 0.4}),
    (ReverseSigmoid(), "ReverseSigmoid", {}),
    (ReverseSigmoid(beta=0.3, gamma=0.5), "ReverseSigmoid", {"beta": 0.3, "gamma": 0.5}),
]


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize(("ours", "kind", "settings"), PAIRS, ids=lambda value: str(value))
def test_the_answers_are_arts_where_its_vectors_keep_the_label(
    ours: Defense, kind: str, settings: dict[str, Any], distribution: str
) -> None:
    p = draw(distribution, 300, K).numpy()
    postprocess = getattr(theirs, kind)(**settings)
    # Row by row: ClassLabels marks the labels of all rows of a batch in each of them.
    told = np.concatenate([postprocess(p[i : i + 1].copy()) for i in range(len(p))])
    total = told.sum(1)
    something = total > 0
    hot = np.eye(K)[label_of(draw(distribution, 300, K)).numpy()]
    expected = np.where(something[:, None], told / np.where(something, total, 1)[:, None], hot)
    q = ours(p)
    label = hot.argmax(1)
    kept = expected[np.arange(300), label] >= expected.max(1)
    assert kept.any() or (kind == "ReverseSigmoid" and distribution == "one-hot")
    np.testing.assert_allclose(q[kept], expected[kept], rtol=0, atol=1e-12)
    assert (q.argmax(1) == label).all()
