"""Who holds which rows."""

from __future__ import annotations

import pytest
import torch

from mipoison.audit.measure.roles import SHARES, divide

MOST = {"defender": 60, "auxiliary": 120, "victims": 60}


def test_no_group_is_in_two_roles_and_no_row_twice():
    groups = torch.arange(600) // 3
    roles = divide(groups, most=MOST, seed=100)
    held = [groups[getattr(roles, role)].unique() for role in (*SHARES, "rest")]
    assert len(torch.cat(held).unique()) == sum(map(len, held))
    rows = torch.cat([getattr(roles, role) for role in (*SHARES, "rest")])
    assert len(rows.unique()) == len(rows)


def test_roles_are_filled_to_what_they_may_have_and_no_more():
    roles = divide(torch.arange(1000), most=MOST, seed=100)
    assert roles.counts == {**MOST, "rest": 760}
    few = divide(torch.arange(200), most=MOST, seed=100)
    assert few.counts == {"defender": 50, "auxiliary": 100, "victims": 50, "rest": 0}


def test_the_seed_alone_decides():
    groups = torch.arange(300) // 2
    one, same, other = (divide(groups, most=MOST, seed=seed) for seed in (100, 100, 101))
    assert torch.equal(one.victims, same.victims)
    assert not torch.equal(one.victims, other.victims)


def test_a_group_that_overfills_its_role_is_cut_there():
    groups = torch.arange(1000) // 50
    roles = divide(groups, most=MOST, seed=100)
    assert [roles.counts[role] for role in SHARES] == [60, 120, 60]
    held = [groups[getattr(roles, role)].unique() for role in (*SHARES, "rest")]
    assert len(torch.cat(held).unique()) == sum(map(len, held))


@pytest.mark.parametrize("groups", [torch.arange(40), torch.arange(400) // 200])
def test_too_few_rows_or_groups_are_refused(groups):
    with pytest.raises(ValueError, match="give more rows, or smaller groups"):
        divide(groups, most=MOST, seed=100)
