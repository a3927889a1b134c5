"""Cross-fitting: whole groups in either half, every label in both, and fresh rows that spend what was asked for."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from worlds import world

import mipoison as mp
from mipoison.defenses.lpa import crossfit, generator
from mipoison.defenses.lpa.aim import Aim
from mipoison.defenses.lpa.crossfit import _half, _joined, _kept_out, _parts
from mipoison.defenses.lpa.equilibrium import Equilibrium
from mipoison.defenses.lpa.penalized import KEYS, Penalized, Weighed
from mipoison.progress import Progress
from mipoison.reference import label_of

K = 5
BUDGET = 0.1


def copies(count: int, each: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows that are slightly altered copies of `count` others, their inputs and the groups."""
    p, x = world(count, K, 6, seed=seed)
    draws = torch.Generator().manual_seed(seed)
    group = torch.arange(count).repeat_interleave(each)
    shift = 0.3 * torch.randn((count * each, K), generator=draws)
    return torch.softmax(p[group].log() + shift, 1), x[group], group


def spent(defense: mp.LPA, p: Tensor) -> float:
    return float((defense(p).double() - p.double()).abs().sum(1).mean())


def test_halves_hold_whole_groups_and_every_label() -> None:
    p, _, group = copies(60, 4, seed=1)
    order = torch.randperm(len(p))
    p, group = p[order], group[order]
    half = _half(p, group, seed=3)
    assert half is not None
    for number in group.unique():
        assert half[group == number].unique().numel() == 1
    for label in label_of(p).unique():
        assert 0.3 < float(half[label_of(p) == label].double().mean()) < 0.7
    assert torch.equal(half, _half(p, group, seed=3))


@pytest.mark.parametrize(("rows", "each"), [(900, 1), (5, 100), (6, 2)])
def test_few_rows_or_groups_are_not_halved(rows: int, each: int) -> None:
    p = world(rows, K)[0].repeat_interleave(each, 0)
    group = torch.arange(rows).repeat_interleave(each)
    if rows < 10:
        p = torch.softmax(torch.randn(rows, K) + 3 * torch.eye(K).repeat(2, 1)[:rows], 1)
        p = p.repeat_interleave(each, 0)
    assert _half(p, None if each == 1 else group, seed=0) is None


@pytest.mark.parametrize(
    ("labels", "each", "count", "folds"),
    [
        (10, 12, 1, 0),
        (10, 25, 1, 0),
        (20, 6, 1, 0),
        (20, 7, 1, 3),
        (10, 30, 1, 3),
        (10, 40, 1, 0),
        (20, 60, 1, 3),
        (10, 100, 1, 0),
        # 127 copied inputs are too few, and 128 enough.
        (127, 1, 9, 0),
        (128, 1, 9, 3),
    ],
)
def test_a_share_is_kept_out_where_labels_have_few_rows(
    labels: int, each: int, count: int, folds: int
) -> None:
    p = torch.eye(labels).repeat(each * count, 1)
    group = None if count == 1 else torch.arange(labels).repeat(count)
    fold = _kept_out(p, group, 0, 1)
    assert (0 if fold is None else int(fold.max()) + 1) == folds


def test_a_half_is_kept_out_where_the_table_takes_a_share_of_the_rows() -> None:
    p = torch.eye(2).repeat(500, 1)
    assert _kept_out(p, None, 0, 8000) is None
    fold = _kept_out(p, None, 0, 9000)
    assert fold is not None and torch.equal(fold.bincount(), torch.tensor([500, 500]))


def test_copies_of_a_row_that_is_kept_out_leave_the_bank_with_it() -> None:
    p, _, group = copies(30, 4, seed=1)
    out = group < 10
    parts = _parts(out, p, group, seed=0)
    assert len(parts) == 4 and torch.equal(torch.stack(parts).sum(0), out.long())
    assert all(part[group == number].unique().numel() == 1 for part in parts for number in group)
    assert _parts(out, p, None, seed=0)[0] is out


@pytest.mark.parametrize("objective", ["equilibrium", "generator"])
@pytest.mark.parametrize("few", [crossfit._KEPT_OUT, ()], ids=["kept out", "halves"])
def test_inputs_have_different_numbers_of_copies(
    monkeypatch: pytest.MonkeyPatch, objective: str, few: tuple[tuple[int, int], ...]
) -> None:
    # The largest label then has another number of rows in each part's bank.
    monkeypatch.setattr(crossfit, "_KEPT_OUT", few)
    p, x, group = copies(40, 9, seed=1)
    some = torch.rand(len(p), generator=torch.Generator().manual_seed(2)) < (group + 1) / 40
    assert int(label_of(p[some]).bincount().max()) < generator._SLOTS
    given = (p[some], x[some])
    served = mp.LPA.fit(*given, objective=objective, budget=BUDGET, key=1, groups=group[some])
    assert 0 < spent(served, p) < 3 * BUDGET


def test_parts_with_fewer_answers_a_row_are_joined() -> None:
    wide = Weighed(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.1, 0.2]]), torch.zeros(1, 2))
    narrow = Weighed(torch.tensor([[3.0]]), torch.tensor([[0.3]]), torch.zeros(1, 1))
    for weight in (-1e6, 0.0, 1e6):
        chosen = _joined([wide, narrow]).chosen(weight, 20.0)
        apart = torch.cat([part.chosen(weight, 20.0) for part in (wide, narrow)])
        assert torch.equal(chosen, apart)


@pytest.mark.full
@pytest.mark.parametrize(
    ("many", "exact", "copies_each", "fits"),
    # The fit on all rows, and on one half or both.
    [(150, 1.0, 0, 2), (150, 1.0, 1, 2), (150, 0.0, 0, 3), (150, 1.0, 2, 3), (201, 1.0, 0, 3)],
)
def test_one_half_is_fitted_where_it_is_large_and_tells_exactly(
    monkeypatch: pytest.MonkeyPatch, many: int, exact: float, copies_each: int, fits: int
) -> None:
    seen: list[int] = []
    fit = Equilibrium.fit.__func__  # type: ignore[attr-defined]

    def counted(cls: type[Equilibrium], rows: Tensor, *given: Any, **named: Any) -> Equilibrium:
        seen.append(len(rows))
        played: Equilibrium = fit(cls, rows, *given, **named)
        return played

    monkeypatch.setattr(Equilibrium, "fit", classmethod(counted))
    for name, value in (("_FEW", 100), ("_MANY", many), ("_EXACT", exact)):
        monkeypatch.setattr(crossfit, name, value)
    p, x = world(200, K, 4, seed=1)
    groups = torch.arange(200) // copies_each if copies_each else None
    served = mp.LPA.fit(p, x, objective="equilibrium", budget=BUDGET, key=1, groups=groups)
    assert seen == [200, 100, 100][:fits]
    assert served.realised == pytest.approx(BUDGET, rel=0.2)


class Memorising(Penalized):
    """Moves a row by STEP or not at all, for an error that is uniform over rows.

    On the rows of the fit the error is larger, the more so the fewer they are.
    """

    candidates_a_row = 2
    STEP = 4 * BUDGET
    # Of 1200 rows these spend a fifth more of the budget than fresh ones, and of 600 two fifths.
    MORE = 30.0
    weighed_beside: ClassVar[list[tuple[Tensor, Tensor]]] = []

    def __init__(self, seen: Tensor, bank: Tensor) -> None:
        super().__init__()
        self.seen, self.bank, self.penalty_weight, self.sharpness = seen, bank, 0.0, 1.0

    @classmethod
    def fit(cls, rows: Tensor, inputs: Any, **settings: Any) -> Memorising:
        return cls(rows, rows)

    def with_bank(self, vectors: Tensor) -> Memorising:
        return Memorising(self.seen, vectors)

    def weigh(self, p: Tensor, *, key: Any, epsilon: float, norm: str) -> Weighed:
        self.weighed_beside.append((self.bank, p))
        more = torch.isin(p[:, 0], self.seen[:, 0]) * self.MORE / len(self.seen)
        score = torch.stack((torch.zeros(len(p)), p[:, 0] + more), 1)
        spent = torch.tensor([[0.0, self.STEP]]).expand(len(p), 2)
        return Weighed(score, spent, torch.zeros(len(p), 2))

    def poison(self, p: Tensor, **settings: Any) -> Tensor:
        raise NotImplementedError

    @classmethod
    def restore(cls, *parts: Any) -> Memorising:
        raise NotImplementedError


@pytest.mark.parametrize("each", [1, 2])
def test_rows_that_the_adversaries_memorised_may_spend_more(
    each: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def grid(count: int) -> Tensor:
        top = 0.5 + (torch.arange(count) + 0.5) / (2 * count)
        return torch.stack((top, 1 - top), 1)

    rows, how = grid(1200), {"epsilon": 1.0, "norm": "l1"}
    group = torch.arange(1200) // each
    beside: list[tuple[Tensor, Tensor]] = []
    monkeypatch.setattr(Memorising, "weighed_beside", beside)
    aim = Aim(budget=BUDGET, margin=0.0, certified=None, error="root", seed=0, **how)
    served = crossfit.fit_cross(Memorising, rows, rows, group, aim, Progress(None))
    asked = served.spent_at(served.penalty_weight, grid(10001), **how)
    assert asked == pytest.approx(BUDGET, rel=0.03)
    assert served.realised == pytest.approx(BUDGET, rel=0.01)
    # Each row was compared with all vectors; with none of its group where it has copies.
    for bank, some in beside[:-KEYS]:
        place = torch.isin(rows[:, 0], some[:, 0])
        left = ~torch.isin(group, group[place]) if each > 1 else torch.ones(1200, dtype=torch.bool)
        assert torch.equal(bank, rows[left])


@pytest.mark.parametrize("objective", ["equilibrium", "generator"])
def test_fresh_rows_spend_the_budget_where_labels_have_few_rows(
    objective: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    halved = []
    monkeypatch.setattr(crossfit, "_half", lambda *_: halved.append(True))
    p, x = world(450, 40, 4, seed=1)
    fresh, _ = world(3000, 40, seed=2)
    served = mp.LPA.fit(p, x, objective=objective, budget=BUDGET, key=1)
    assert spent(served, fresh) == pytest.approx(BUDGET, rel=0.25)
    assert served.realised == pytest.approx(BUDGET, rel=0.05) and not halved
    # The rows that were kept out are in the bank.
    (bank,) = (v for name, v in served.state_dict().items() if name.endswith("bank.vectors"))
    assert bank.shape == p.shape


@pytest.mark.parametrize("objective", ["equilibrium", "generator"])
def test_one_row_many_times_moves_by_the_budget_under_every_key(objective: str) -> None:
    p, x = (rows.repeat(60, 1) for rows in world(1, K, 4))
    served = mp.LPA.fit(p, x, objective=objective, budget=BUDGET, key=1)
    for key in range(5):
        again = mp.LPA(served.objective, epsilon=served.epsilon, key=key)
        assert spent(again, p) == pytest.approx(BUDGET, rel=0.01)
    assert served.realised == pytest.approx(BUDGET, rel=0.01)


@pytest.mark.parametrize(
    ("estimate", "advice"),
    [(0.121, "or raise the budget"), (0.079, "raise epsilon or lower the budget")],
)
def test_a_fit_that_misses_its_budget_warns(
    monkeypatch: pytest.MonkeyPatch, estimate: float, advice: str
) -> None:
    monkeypatch.setattr(Penalized, "spent_at", lambda *_, **__: estimate)
    with pytest.warns(
        UserWarning, match=f"budget of 0.1 in l1.* estimate of {estimate}.*{advice}"
    ) as told:
        served = mp.LPA.fit(*world(60, K, 2), objective="generator", budget=BUDGET, key=1)
    assert served.realised == estimate and told[0].filename == __file__


def test_a_fit_that_meets_its_budget_is_silent(
    monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setattr(Penalized, "spent_at", lambda *_, **__: 0.119)
    mp.LPA.fit(*world(60, K, 2), objective="generator", budget=BUDGET, key=1)
    assert not recwarn.list


@pytest.mark.full
def test_fresh_rows_spend_the_budget_when_fitted_on_copies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    p, x, group = copies(150, 6, seed=1)
    fresh, _, _ = copies(1000, 1, seed=2)
    halves = []

    def seen(*given: Any) -> Tensor | None:
        halves.append(_half(*given))
        return halves[-1]

    monkeypatch.setattr(crossfit, "_half", seen)
    told = mp.LPA.fit(p, x, objective="generator", budget=BUDGET, key=1, groups=group)
    assert spent(told, fresh) == pytest.approx(BUDGET, rel=0.25)
    # Nine hundred rows are too few to be halved, unless they are known to be copies: those were, and group by group.
    (half,) = halves
    assert half is not None and half.unique().numel() == 2
    assert all(half[group == number].unique().numel() == 1 for number in group.unique())


@pytest.mark.full
def test_from_a_thousand_rows_on_fresh_rows_spend_the_budget_within_a_tenth() -> None:
    p, x = world(1200, K, 6, seed=1)
    fresh, _ = world(4000, K, seed=2)
    served = mp.LPA.fit(p, x, budget=BUDGET, key=1, objective="equilibrium")
    assert spent(served, fresh) == pytest.approx(BUDGET, rel=0.1)


@pytest.mark.parametrize(
    ("groups", "error", "message"),
    [
        (torch.arange(59), ValueError, r"of shape \(60,\), one integer a row, got \(59,\)"),
        (torch.zeros(60, 1, dtype=torch.long), ValueError, r"got \(60, 1\)"),
        (torch.rand(60), TypeError, "expected groups to hold integers, got torch.float32"),
    ],
)
def test_wrong_groups_are_refused(groups: Tensor, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        mp.LPA.fit(*world(60, K, 2), groups=groups)


def test_a_fit_under_inference_mode_leaves_ordinary_tensors() -> None:
    """Where rows are kept out of the game and join the bank."""
    p, x = world(140, 20, 4)
    with torch.inference_mode():
        defense = mp.LPA.fit(p, x, objective="generator", key=1)
    assert not any(tensor.is_inference() for tensor in defense.buffers())
    defense.load_state_dict(defense.state_dict())
