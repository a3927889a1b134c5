"""The cutoff: finite answers, the budget, what a label's rows are worth; and the choice between it and the game."""

from __future__ import annotations

import io

import pytest
import torch
from distributions import DISTRIBUTIONS, draw
from test_codebook import classified, spent
from torch import Tensor
from worlds import world

import mipoison as mp
from mipoison.defenses.lpa import auto
from mipoison.defenses.lpa.critics import errors_of
from mipoison.defenses.lpa.cutoff import Cutoff, worths
from mipoison.defenses.lpa.objective import Objective
from mipoison.progress import Progress
from mipoison.reference import label_of
from mipoison.reference.rounding import lead

K = 5
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


@pytest.fixture(scope="module")
def cutoff() -> mp.LPA:
    return mp.LPA.fit(*classified(700, seed=100), objective="cutoff", budget=0.1)


# Answers.


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_entries_are_zero_or_reach_the_cutoff_in_whole_steps(
    cutoff: mp.LPA, distribution: str, dtype: torch.dtype
) -> None:
    p = draw(distribution, 300, K, seed=1).to(dtype)
    q, one = cutoff(p).double(), cutoff.objective
    label = label_of(p)
    assert torch.equal(label_of(q), label)
    assert float(lead(q, label).min()) > 2.0**-7
    # Other rows are raised to a lead.
    clear = lead(p.double(), label) > 0.1
    rivals = q.scatter(1, label.unsqueeze(1), 0.0)[clear]
    off = (rivals - (rivals / one.step).round() * one.step).abs()
    assert not bool((off > 2 * max(torch.finfo(dtype).eps, 1e-7)).any())
    least = one.cutoffs[label[clear]].unsqueeze(1) - one.step
    assert bool(((rivals == 0) | (rivals > least)).all())


def test_answers_are_finitely_many_and_the_same_in_every_dtype(cutoff: mp.LPA) -> None:
    p, _ = classified(20_000, seed=101)
    few, all_ = (len(cutoff(p[:n]).unique(dim=0)) for n in (5_000, 20_000))
    assert all_ < 1.5 * few
    assert torch.equal(cutoff(p.double()).float(), cutoff(p))


def test_answers_in_float64_sum_to_one_in_float64(cutoff: mp.LPA) -> None:
    p, _ = classified(2_000, seed=101)
    assert float((cutoff(p.double()).sum(1) - 1).abs().max()) < 1e-15


@pytest.mark.parametrize("k", [2, 5])
@pytest.mark.parametrize("seed", range(4))
def test_last_bits_of_fitted_rows_decide_nothing(k: int, seed: int) -> None:
    # Cutoffs and the step come from these rows: an entry of one could lie where its answer changes.
    p, x = world(200, 16, k, seed=seed)
    one = mp.LPA.fit(p, x, objective="cutoff", budget=0.1)
    answers = one(p)
    for up in (0.0, 1.0):
        next_to_it = torch.nextafter(p, torch.full((), up))
        assert float((one(next_to_it) - answers).abs().sum(1).max()) < 1e-5
    assert float((one(p.double()) - answers).abs().sum(1).max()) < 1e-5


@pytest.mark.parametrize("groups", [[0] * 200, [0] * 199 + [1]])
def test_rows_of_a_few_inputs_are_enough(groups: list[int]) -> None:
    p, x = classified(200, seed=100)
    assert mp.LPA.fit(p, x, budget=0.05, key=1, groups=groups).objective.name == "equilibrium"


def test_fresh_rows_spend_the_budget(cutoff: mp.LPA) -> None:
    fresh, _ = classified(20_000, seed=103)
    assert spent(cutoff, fresh) == pytest.approx(0.1, rel=0.05)
    assert cutoff.realised == pytest.approx(0.1, rel=0.02)


def test_a_budget_beyond_the_labels_answers_with_labels_alone() -> None:
    p, x = classified(300, seed=100)
    one = mp.LPA.fit(p, x, objective="cutoff", budget=1.9)
    q = one(p)
    assert torch.equal(q.amax(1), torch.ones(300)) and one.realised < 1.9


def test_near_what_labels_spend_one_cutoff_is_common() -> None:
    p, x = classified(300, seed=100)
    labels = float(2 * (1 - p.amax(1)).mean())
    for share, common in ((0.4, False), (0.9, True)):
        one = mp.LPA.fit(p, x, objective="cutoff", budget=share * labels).objective
        assert (float(one.cutoffs.max() - one.cutoffs.min()) == 0.0) == common


def test_a_state_dict_carries_the_step(cutoff: mp.LPA) -> None:
    other = mp.LPA.fit(*classified(300, seed=104), objective="cutoff", budget=0.2)
    p, _ = classified(200, seed=105)
    assert not torch.equal(other(p), cutoff(p))
    other.load_state_dict(cutoff.state_dict())
    assert torch.equal(other(p), cutoff(p))


def test_wrong_cutoffs_are_refused() -> None:
    good = torch.full((K,), 0.1, dtype=torch.float64)
    for cutoffs, error in (
        (good.unsqueeze(0), ValueError),
        (good.float(), TypeError),
        (good - 0.2, ValueError),
        (good * torch.nan, ValueError),
    ):
        with pytest.raises(error, match="expected cutoffs"):
            Cutoff(cutoffs, step=0.01, lead=0.02)
    with pytest.raises(ValueError, match="step"):
        Cutoff(good, step=0.0, lead=0.02)
    with pytest.raises(ValueError, match="fit them with that margin"):
        mp.LPA(Cutoff(good, step=0.01, lead=0.02), margin=0.1)


# What a label's rows are worth.


def test_a_label_whose_unconfident_rows_tell_more_is_worth_more() -> None:
    p, x = classified(2000, seed=106)
    x = torch.rand(len(p), 8, generator=torch.Generator().manual_seed(1))
    low = 1 - p.amax(1) > 0.1
    x[low & (label_of(p) == 2)] += 0.5
    worth = worths(p, x, None, unconfident=0.1)
    others = torch.cat((worth[:2], worth[3:]))
    assert float(worth[2]) > 2 * float(others.max())
    assert float(worth.mean()) == pytest.approx(1.0)
    copies = torch.arange(len(p)).repeat(3)
    again = worths(p.repeat(3, 1), x.repeat(3, 1), copies, unconfident=0.1)
    assert torch.allclose(again, worth)


@pytest.mark.parametrize("n", [1, 2, 9])
def test_few_rows_are_worth_alike(n: int) -> None:
    p, x = classified(n, seed=107)
    assert bool(worths(p, x, None, unconfident=0.1).isfinite().all())
    one = mp.LPA.fit(p, x, objective="cutoff", budget=0.1)
    assert bool(one(classified(100, seed=108)[0]).isfinite().all())


# The choice.


def sharpened(p: Tensor) -> Tensor:
    return (4 * p.log()).softmax(1)


def assert_takes_a_key(chosen: mp.LPA, p: Tensor) -> None:
    """It stands where a defense with a key is expected, though its answers do not depend on one."""
    file = io.BytesIO()
    chosen.save(file)
    file.seek(0)
    with pytest.raises(ValueError, match="expected the key"):
        mp.load(file)
    file.seek(0)
    loaded = mp.load(file, key=2)
    assert torch.equal(loaded(p), chosen(p)) and torch.equal(loaded.with_key(3)(p), chosen(p))
    assert torch.equal(chosen(p, ids=list(range(len(p)))), chosen(p))


def test_a_confident_classifier_is_cut_without_a_game(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto, "fit_cross", lambda *_, **__: pytest.fail("a game was played"))
    p, x = classified(300, seed=100)
    p = sharpened(p)
    chosen = mp.LPA.fit(p, x, budget=0.005, key=1)
    assert chosen.objective.name == "cutoff" and chosen.epsilon == 2.0
    assert_takes_a_key(chosen, p)


@pytest.mark.filterwarnings("ignore:expected fresh rows to move")
@pytest.mark.parametrize(
    ("alone", "apart", "kept"),
    [(0.15, 0.1, "cutoff"), (0.25, 0.0, "equilibrium"), (0.25, -0.1, "cutoff")],
)
def test_a_confident_classifier_is_not_cut_where_many_rows_stay_alone(
    monkeypatch: pytest.MonkeyPatch, game: Objective, alone: float, apart: float, kept: str
) -> None:
    errors = torch.ones(300).double()
    monkeypatch.setattr(auto, "fit_cross", lambda *_, **__: game)
    monkeypatch.setattr(auto, "errors_of", lambda *_, **__: (errors + apart, errors, errors - 1))
    monkeypatch.setattr(auto, "_alone", lambda *_: alone)
    p, x = classified(300, seed=100)
    assert mp.LPA.fit(sharpened(p), x, budget=0.005, key=1).objective.name == kept


def test_where_one_answer_a_label_is_within_the_budget_there_is_a_codebook(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(auto, "fit_cross", lambda *_, **__: pytest.fail("a game was played"))
    p, x = classified(300, seed=100)
    least = auto._spread(p)
    label = label_of(p)
    medians = torch.stack([p[label == t].median(0).values for t in range(K)])[label]
    assert least == pytest.approx(float((p - medians).abs().sum(1).mean()), rel=1e-6)

    chosen = mp.LPA.fit(p, x, budget=1.2 * least, key=1)
    assert chosen.objective.name == "codebook" and chosen.epsilon == 2.0
    assert chosen.realised is not None and chosen.realised <= 1.2 * least
    alike = mp.LPA.fit(p, x, objective="codebook", budget=1.2 * least)
    assert torch.equal(chosen(p), alike(p))
    assert_takes_a_key(chosen, p)


def test_where_moves_are_capped_one_answer_a_label_is_no_answer(
    monkeypatch: pytest.MonkeyPatch, game: Objective
) -> None:
    # A row that may not go all the way to its codeword tells more than its label.
    monkeypatch.setattr(auto, "fit_cross", lambda *_, **__: game)
    monkeypatch.setattr(auto.Codebook, "fit", lambda *_: pytest.fail("a codebook was fitted"))
    p, x = classified(150, seed=100)
    chosen = mp.LPA.fit(p, x, budget=1.01 * auto._spread(p), epsilon=1.9, key=1)
    assert chosen.objective.name in ("cutoff", "equilibrium")


def test_codewords_that_fresh_rows_cannot_reach_are_no_answer() -> None:
    # Two rows a label are as near to their median as they can be, and fresh rows are not.
    p, x = world(140, 70, 4, seed=3)
    twins = p.repeat_interleave(2, 0), x.repeat_interleave(2, 0)
    groups = torch.arange(140).repeat_interleave(2)
    chosen = mp.LPA.fit(*twins, budget=0.02 + auto._spread(twins[0]), key=1, groups=groups)
    assert bool(chosen(p).isfinite().all())


@pytest.fixture(scope="module")
def game() -> Objective:
    fitted = mp.LPA.fit(*classified(150, seed=100), objective="equilibrium", budget=0.05, key=1)
    return fitted.objective


@pytest.mark.parametrize(
    ("apart", "noise", "alone", "kept"),
    [
        (0.15, 0.01, 0.5, "equilibrium"),
        (0.15, 0.4, 0.5, "cutoff"),
        (0.06, 0.01, 0.5, "cutoff"),
        (-0.5, 0.01, 0.5, "cutoff"),
        (-0.5, 0.01, 0.7, "cutoff"),
        (-0.5, 2.5, 0.7, "equilibrium"),
        (-0.06, 0.01, 0.7, "equilibrium"),
        (0.15, 0.4, 0.7, "equilibrium"),
    ],
)
def test_without_a_clear_difference_answers_that_rows_share_are_kept(
    monkeypatch: pytest.MonkeyPatch,
    game: Objective,
    apart: float,
    noise: float,
    alone: float,
    kept: str,
) -> None:
    off = noise * torch.randn(150, generator=torch.Generator().manual_seed(1)).double()
    off -= off.mean()
    monkeypatch.setattr(auto, "fit_cross", lambda *_, **__: game)
    monkeypatch.setattr(auto, "errors_of", lambda *_, **__: (1.0 + apart + off, 1.0 - off))
    monkeypatch.setattr(auto, "_alone", lambda *_: alone)
    chosen = mp.LPA.fit(*classified(150, seed=100), budget=0.05, key=1)
    assert chosen.objective.name == kept


def test_a_row_is_alone_where_no_other_group_has_its_answer() -> None:
    answers = torch.tensor([[0.0], [0.0], [1.0], [1.0], [2.0]]) / torch.tensor([[1.0, 3.0]])
    assert auto._alone(answers, None) == pytest.approx(1 / 5)
    assert auto._alone(answers, torch.tensor([0, 1, 2, 2, 3])) == pytest.approx(3 / 5)


@pytest.mark.parametrize(
    ("equilibrium", "cutoff", "codebook", "kept"),
    [
        (0.5, 0.4, 0.7, "codebook"),
        (0.71, 0.4, 0.7, "codebook"),
        (0.8, 0.4, 0.7, "equilibrium"),
        (0.71, 0.7, 0.6, "cutoff"),
    ],
)
def test_of_several_rows_a_label_a_codebook_is_tried_too(
    monkeypatch: pytest.MonkeyPatch,
    game: Objective,
    equilibrium: float,
    cutoff: float,
    codebook: float,
    kept: str,
) -> None:
    def errors(answers: list[torch.Tensor], *_: object, thorough: bool, **__: object) -> object:
        assert thorough
        assert len(answers) == 3
        noise = 0.01 * torch.randn(3, 600, generator=torch.Generator().manual_seed(1)).double()
        noise -= noise.mean(1, keepdim=True)
        return torch.tensor([equilibrium, cutoff, codebook]).unsqueeze(1) + noise

    monkeypatch.setattr(auto, "fit_cross", lambda *_, **__: game)
    monkeypatch.setattr(auto, "errors_of", errors)
    monkeypatch.setattr(auto, "_alone", lambda *_: 0.0)
    chosen = mp.LPA.fit(*classified(600, seed=100), budget=0.05, key=1)
    assert chosen.objective.name == kept
    assert chosen.objective.keyed


@pytest.mark.whole_fits
def test_an_entry_that_never_varied_blinds_no_adversary() -> None:
    p, x = classified(300, seed=100)
    # An entry that one row has: no network that meets this row has seen it vary.
    rare = torch.cat((p, torch.zeros(len(p), 1)), 1)
    rare[0] *= 0.7
    rare[0, -1] = 0.3
    errors = errors_of((rare, p), x, None, seed=1, thorough=False, progress=Progress(None))
    seldom, never = (float(one.mean()) for one in errors)
    assert seldom < 1.1 * never


@pytest.mark.whole_fits
def test_adversaries_err_more_where_less_is_told() -> None:
    p, x = classified(300, seed=100)
    blunt = torch.eye(K)[label_of(p)]
    answers = (p, torch.where(p < 0.2, 0.0, p), blunt)
    # Copies of one input count as one row.
    copies = torch.arange(100).repeat(3)
    errors = errors_of(answers, x, copies, seed=1, thorough=False, progress=Progress(None))
    assert all(len(one) == 100 for one in errors)
    told, half, nothing = (float(one.mean()) for one in errors)
    assert told < half < nothing
