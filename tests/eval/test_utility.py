"""Distortions agree with values worked out by hand."""

import pytest
import torch

from mipoison.eval.scores.utility import utility


def test_undefended_vectors_cost_nothing():
    p = torch.softmax(torch.randn(50, 6, generator=torch.Generator().manual_seed(0)), 1)
    measured = utility(p, p, p.argmax(1))
    assert measured["accuracy"] == 1.0 and measured["unchanged"] == 1.0
    zero = [name for name in measured if name.endswith(("_mean", "_max"))] + ["labels_changed"]
    assert len(zero) == 11
    assert all(measured[name] == pytest.approx(0.0, abs=1e-6) for name in zero)


def test_one_hot_answers_by_hand():
    p = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.9, 0.0]], dtype=torch.float64)
    q = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]], dtype=torch.float64)
    measured = utility(p, q, torch.tensor([0, 1]))
    assert measured["accuracy"] == 0.5 and measured["labels_changed"] == 1
    assert measured["l1_mean"] == pytest.approx((1.0 + 1.8) / 2)
    assert measured["l1_max"] == pytest.approx(1.8)
    assert measured["linf_max"] == pytest.approx(0.9)
    assert measured["l2_mean"] == pytest.approx((0.38**0.5 + 1.62**0.5) / 2)
    kl = -torch.tensor([0.5, 0.1], dtype=torch.float64).log()
    assert measured["kl_mean"] == pytest.approx(float(kl.mean()))
    assert measured["top_change_max"] == pytest.approx(0.5)


def test_kl_is_finite_where_the_classifier_says_zero():
    p, q = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.9, 0.1]])
    assert utility(p, q, torch.tensor([0]))["kl_max"] < 20


def test_distances_start_from_the_renormalised_vector():
    p = torch.tensor([[0.6, 0.4]]) * 1.00005
    assert utility(p, torch.tensor([[0.6, 0.4]]), torch.tensor([0]))["l1_max"] < 1e-6


def test_decisions_at_a_threshold_by_hand():
    # The median top confidence is 0.7: two rows are accepted, then the last two.
    p = torch.tensor([[0.9, 0.1], [0.7, 0.3], [0.6, 0.4]])
    q = torch.tensor([[0.6, 0.4], [0.7, 0.3], [0.8, 0.2]])
    measured = utility(p, q, torch.tensor([0, 1, 0]))
    assert measured["accepted"] == pytest.approx(2 / 3)
    assert measured["accept_changed"] == pytest.approx(2 / 3)
    assert measured["accepted_accuracy"] == 0.5
    flat = torch.full((3, 2), 0.5)
    nothing = utility(p, flat, torch.tensor([0, 1, 0]))
    assert (nothing["accepted"], nothing["accepted_accuracy"]) == (0.0, 1.0)
