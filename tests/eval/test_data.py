"""Roles are disjoint and depend on the seed alone."""

import pytest
import torch

from mipoison.eval.data import split


def test_roles_share_no_row_and_cover_the_data_set():
    parts = split("digits", seed=100)
    rows = torch.cat([parts.private.rows, parts.defender.rows])
    rows = torch.cat([rows, parts.auxiliary.rows, parts.victims.rows])
    assert sorted(rows.tolist()) == list(range(1797))


def test_split_depends_on_the_seed_alone():
    torch.manual_seed(1)
    first = split("digits", seed=100)
    torch.manual_seed(2)
    again, other = split("digits", seed=100), split("digits", seed=101)
    assert torch.equal(first.victims.rows, again.victims.rows)
    assert torch.equal(first.victims.inputs, again.victims.inputs)
    assert not torch.equal(first.victims.rows, other.victims.rows)


def test_pixels_lie_between_0_and_1_and_labels_fit_the_classes():
    parts = split("digits", seed=100)
    for role in (parts.private, parts.defender, parts.auxiliary, parts.victims):
        assert role.inputs.dtype == torch.float32 and role.inputs.shape == (len(role), 64)
        assert role.inputs.min() >= 0.0 and role.inputs.max() <= 1.0
        assert set(role.labels.tolist()) == set(range(parts.classes))


def test_unknown_data_set_says_what_is_allowed():
    with pytest.raises(ValueError, match=r"expected one of \['digits'\], got 'cifar'"):
        split("cifar", seed=100)
