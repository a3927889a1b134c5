"""Vectors as people have them become probability vectors."""

import numpy as np
import pytest
import torch

from mipoison.audit.reading.confidences import as_columns, as_probabilities
from mipoison.audit.reading.found import row_names


def probabilities(outputs, **options):
    notes = []
    found = as_probabilities(
        "p", as_columns("p", outputs), row_names(len(outputs)), notes, **options
    )
    assert bool((found.double().sum(1) - 1).abs().max() < 1e-6) and found.dtype == torch.float32
    return found.numpy(), notes


def row_three(factor):
    return np.where(np.arange(320)[:, None] == 3, factor, 1)


def sparse(p):
    """At most three entries that are not zero, in some rows fewer."""
    kept = np.where((p > 0.25) | (p == p.max(1, keepdims=True)), p, 0)
    assert set((kept > 0).sum(1)) == {1, 2, 3}
    return kept / kept.sum(1, keepdims=True)


def test_logits_are_divided_by_the_temperature(logits, p):
    found, notes = probabilities(logits, logits=True)
    assert abs(found - p).max() < 1e-6 and not notes
    found, _ = probabilities(logits, logits=True, temperature=2.0)
    assert abs(found - torch.softmax(torch.from_numpy(logits) / 2, 1).numpy()).max() < 1e-6
    found, _ = probabilities(np.log(p), logits=True)
    assert abs(found - p).max() < 1e-6


def test_small_entries_stay(p):
    deep = torch.softmax(60 * torch.from_numpy(p).double(), 1).numpy()
    found, _ = probabilities(deep)
    assert found.min() < 1e-20
    np.testing.assert_allclose(found, deep, rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "far", "said"),
    [
        (lambda p: 100 * p, 1e-6, "percent"),
        (lambda p: p.astype(np.float16), 1e-2, "16 bits"),
        (lambda p: p.astype(np.float16).astype(np.float32), 1e-2, "16 bits"),
        (lambda p: torch.from_numpy(p).bfloat16().float().numpy(), 1e-2, "16 bits"),
        (lambda p: p.round(2), 0.02, "rounded to 2 decimals"),
        (lambda p: p.astype(np.float64).round(4), 1e-3, "rounded to 4 decimals"),
        (lambda p: (100 * p).round(1), 1e-2, "percent"),
        (lambda p: np.where(p >= np.sort(p, 1)[:, 2:3], p, 0), 0.5, "cut off"),
        (lambda p: np.concatenate((1 - p[:, :1], p[:, :1]), 1)[:, 1], None, "second of two"),
    ],
)
def test_what_vectors_went_through_is_noted(change, far, said, p):
    found, notes = probabilities(change(p))
    assert any(said in note for note in notes), notes
    if far is not None:
        assert abs(found - p).max() < far


def test_full_vectors_have_no_notes(p):
    for dtype in (np.float32, np.float64):
        assert not probabilities(p.astype(dtype))[1]


def test_labels_among_vectors_are_counted(p):
    some = p.copy()
    some[:3] = np.eye(4)[:3]
    _, notes = probabilities(some)
    assert any(note.startswith("3 of 320 vectors") for note in notes)


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        (lambda p: p, {"logits": True}, "probabilities already; leave --logits out"),
        (lambda p: 100 * p, {"logits": True}, "percent already; leave --logits out"),
        (lambda p: 0.6 * sparse(p), {"logits": True}, "probabilities already; leave --logits out"),
        (lambda p: 1.5 * p, {"logits": True}, "times 1.5 already; .* divide each by its sum"),
        (lambda p: (255 * p).round(), {"logits": True}, "times 255 already"),
        (lambda p: (255 * p).round(), {}, "divide each vector by its sum"),
        (lambda p: np.hstack((p, p[:, :1])) * 2, {}, "a column that is no class"),
        (lambda p: 100 * p[:, 0], {}, "divide percent by 100"),
        (lambda p: p, {"temperature": 2.0}, "temperature: expected 1"),
        (lambda p: p, {"temperature": 0.0, "logits": True}, "expected temperature in"),
        (lambda p: 1e16 * p, {"logits": True}, "expected logits within"),
        (lambda p: 3 * p[:, 0] - 1, {}, "one of two classes in"),
        (lambda p: p * 1.01, {}, "320 of 320 rows"),
        # A wrong sum is no rounding and no cut.
        (lambda p: (row_three(0.9) * p.astype(np.float64).round(2)).round(3), {}, "row 3"),
        (lambda p: np.where(np.arange(320)[:, None] == 3, 0, p), {}, r"row 3: its sum is 0\)"),
        # Entries that are zero here and there were not cut off.
        (
            lambda p: row_three(0.5) * sparse(p),
            {},
            "1 of 320 rows otherwise, row 3",
        ),
        (lambda p: p[:, :0], {}, r"got \[320, 0\]"),
        (lambda p: p[None], {}, r"got \[1, 320, 4\]"),
    ],
)
def test_mistakes(change, options, said, p):
    with pytest.raises(ValueError, match=said):
        probabilities(change(p), **options)
