"""LPA: objectives, epsilon and budget, saving and loading, and inputs of every kind."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from distributions import DISTRIBUTIONS, draw
from fitted import key_of
from later import later, unless
from torch import Tensor
from worlds import world

import mipoison as mp
from mipoison.defenses.lpa import OBJECTIVES
from mipoison.ops import unchecked
from mipoison.reference import label_of

K = 10
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
EPSILON = 0.2
# What they serve has moved by about epsilon; the others put a price on moves.
SPENDERS = [name for name, objective in OBJECTIVES.items() if not objective.may_stay]


@pytest.fixture(scope="module")
def fitted() -> dict[str, mp.LPA]:
    """One defense for each objective, fitted on the same data."""
    return {
        name: mp.LPA.fit(*world(300, K, 3, 4), objective=name, epsilon=EPSILON, **key_of(name))
        for name in OBJECTIVES
    }


def moves(defense: mp.LPA, p: Tensor) -> Tensor:
    """‖q − p‖₁ of each row, in float64."""
    return (defense(p).double() - p.double()).abs().sum(1)


# Objectives.


def test_the_objectives_are_known_by_name(fitted: dict[str, mp.LPA]) -> None:
    assert list(OBJECTIVES) == [
        *("equilibrium", "generator", "decoy", "ascent"),
        *("direction", "alignment", "alignment-full", "codebook", "cutoff"),
    ]
    for name, defense in fitted.items():
        assert defense.objective.name == name and type(defense.objective) is OBJECTIVES[name]
    with pytest.raises(
        ValueError, match=r"expected objective to be one of .*'decoy'.* got 'equal'"
    ):
        mp.LPA.fit(*world(20, K, 2), objective="equal")


def test_few_rows_are_fitted_by_the_equilibrium_and_the_others_spend_a_fifth() -> None:
    p, x = world(40, K, 2)
    for given, epsilon, budget in (
        ({}, 0.8, 0.1),
        ({"epsilon": 0.5}, 0.5, 0.1),
        ({"epsilon": 0.1}, 0.1, 0.05),
        ({"budget": 0.05}, 0.4, 0.05),
    ):
        defense = mp.LPA.fit(p, x, key=1, **given)
        assert defense.objective.name == "equilibrium" and defense.norm == "l1"
        assert defense.epsilon == pytest.approx(epsilon)
        assert defense.objective.settings()["budget"] == pytest.approx(budget)
    assert mp.LPA.fit(p, x, objective="decoy", key=1).epsilon == 0.2


@pytest.mark.whole_fits
@pytest.mark.parametrize("objective", unless(("decoy", "generator"), OBJECTIVES))
def test_a_fit_tells_how_much_of_it_is_done(objective: str) -> None:
    p, x = world(60, K, 2)
    told: list[float] = []
    watched = mp.LPA.fit(p, x, objective=objective, key=1, progress=told.append)
    assert told == sorted(told) and told[0] > 0 and told[-1] == 1
    assert len(told) > (30 if objective != "direction" else 0)
    assert torch.equal(watched(p), mp.LPA.fit(p, x, objective=objective, key=1)(p))


@pytest.mark.whole_fits
def test_an_exception_in_progress_ends_the_fit() -> None:
    def cancel(share: float) -> None:
        raise InterruptedError(f"{share:.2f}")

    with pytest.raises(InterruptedError, match=r"0\.00"):
        mp.LPA.fit(*world(60, K, 2), key=1, progress=cancel)


def test_one_call_is_ascent_with_a_surrogate_and_direction_without(
    fitted: dict[str, mp.LPA],
) -> None:
    p, _ = world(30, K, seed=2)
    surrogate = fitted["ascent"].objective.surrogate
    assert torch.equal(mp.lpa(p, surrogate, epsilon=EPSILON, key=1), fitted["ascent"](p))
    assert torch.equal(mp.lpa(p, epsilon=EPSILON, key=1), fitted["direction"](p))


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("objective", ["decoy", "ascent", "alignment", "alignment-full"])
def test_every_row_moves_by_about_epsilon(
    fitted: dict[str, mp.LPA], objective: str, distribution: str
) -> None:
    p = draw(distribution, 300, K, seed=5).float()
    moved = moves(fitted[objective], p)
    assert float(moved.median()) > 0.95 * EPSILON and float(moved.quantile(0.05)) > 0.8 * EPSILON


@pytest.mark.parametrize("distribution", unless(("plain", "one-hot", "ties"), DISTRIBUTIONS))
@pytest.mark.parametrize("objective", SPENDERS)
def test_every_row_moves(fitted: dict[str, mp.LPA], objective: str, distribution: str) -> None:
    p = draw(distribution, 300, K, seed=5).float()
    assert float(moves(fitted[objective], p).min()) > 0.05 * EPSILON


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_label_ever_changes(fitted: dict[str, mp.LPA], dtype: torch.dtype) -> None:
    for objective, n in (
        ("direction", 2900),
        ("decoy", 150),
        ("alignment", 150),
        ("alignment-full", 40),
    ):
        # 20,300 rows, 1,050 twice, and 280.
        p = torch.cat([draw(d, n, K, seed=6) for d in DISTRIBUTIONS]).to(dtype)
        q, label = fitted[objective](p).double(), label_of(p)[:, None]
        assert (q.gather(1, label) > q.scatter(1, label, -1.0)).all()


@pytest.mark.parametrize("dtype", [torch.float16, *later(torch.bfloat16)])
@pytest.mark.parametrize("objective", unless(("decoy", "alignment"), SPENDERS))
def test_rows_of_16_bits_are_poisoned_like_others(
    fitted: dict[str, mp.LPA], objective: str, dtype: torch.dtype
) -> None:
    """Their sums are off by more than float32 tolerates, and the objective must not mind."""
    narrow = draw("plain", 200, K, seed=7).to(dtype)
    exact = narrow.double()
    wide = (exact / exact.sum(1, keepdim=True)).float()
    assert float((exact.sum(1) - 1).abs().max()) > 1e-4
    other = mp.LPA(fitted[objective].objective, epsilon=EPSILON, key=2)

    def keyed(p: Tensor) -> float:
        """Share of the rows that another key answers otherwise."""
        difference = (other(p).double() - fitted[objective](p).double()).abs().sum(1)
        return float((difference > EPSILON / 5).double().mean())

    assert keyed(wide) > 0.8 and keyed(narrow) > 0.9 * keyed(wide)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_defense_fitted_on_16_bits(dtype: torch.dtype) -> None:
    p, x = world(400, K, 4)
    rows, _ = world(100, K, seed=8)
    defense = mp.LPA.fit(p.to(dtype), x, objective="decoy", epsilon=EPSILON, key=1)
    sums = defense.objective.bank.vectors.double().sum(1)
    assert float((sums - 1).abs().max()) < 1e-6
    other = mp.LPA(defense.objective, epsilon=EPSILON, key=2)
    different = (other(rows) - defense(rows)).abs().sum(1) > EPSILON / 5
    assert float(different.double().mean()) > 0.8
    cheap = mp.LPA.fit(p.to(dtype), x, objective="ascent", budget=0.1, key=1)
    assert float(moves(cheap, p).mean()) == pytest.approx(0.1, rel=0.1)


def test_near_duplicates_draw_the_same_decoy(
    fitted: dict[str, mp.LPA], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoys: list[Tensor] = []
    move = unchecked.move

    def recording(p: Tensor, target: Tensor, **options: Any) -> Tensor:
        decoys.append(target)
        return move(p, target, **options)

    monkeypatch.setattr(unchecked, "move", recording)
    p, _ = world(300, K, seed=9)
    jitter = torch.randn(p.shape, generator=torch.Generator().manual_seed(3))

    def shared(defense: mp.LPA, size: float) -> float:
        near = (p + size * jitter).clamp_min(0)
        near /= near.sum(1, keepdim=True)
        decoys.clear()
        defense(p), defense(near)
        # The first move of each call; others are where bare rows go.
        first, second = decoys[0], decoys[len(decoys) // 2]
        return float((first == second).all(1).double().mean())

    finest = copy.deepcopy(fitted["decoy"])
    finest.objective.grid = 0.0
    assert shared(fitted["decoy"], 1e-4) > 0.9
    # What a classifier's rounding changes is the same row still.
    assert shared(finest, 1e-7) == 1.0
    assert shared(finest, 1e-3) < 0.5


# Epsilon and budget.


@pytest.mark.parametrize("objective", ["decoy", "ascent", "alignment", "alignment-full"])
def test_a_surrogate_that_recovers_nothing_is_served(objective: str) -> None:
    p, x = world(60, K, 3)
    defense = mp.LPA.fit(p, x, objective=objective, epsilon=EPSILON, key=1)
    state = defense.state_dict()
    last = ("surrogate.weight2", "surrogate.bias2")
    silent = {k: v * 0 if k.endswith(last) else v for k, v in state.items()}
    defense.load_state_dict(silent)
    assert float(defense.objective.surrogate(p).abs().max()) == 0.0
    q = defense(p)
    assert torch.equal(label_of(q), label_of(p))
    assert float((q.sum(1) - 1).abs().max()) < 1e-6
    assert float(moves(defense, p).min()) > 0.05 * EPSILON


@pytest.mark.parametrize("objective", ["decoy", "ascent", "alignment"])
def test_rows_stay_in_their_ball_where_a_surrogate_overflows(objective: str) -> None:
    """By finite weights that no fit gives. A refused row would get the safe answer, which is far away."""
    p, x = world(60, K, 3)
    defense = mp.LPA.fit(p, x, objective=objective, epsilon=EPSILON, key=1)
    last = ("surrogate.weight2", "surrogate.bias2")
    state = defense.state_dict()
    defense.load_state_dict({k: v * 1e25 if k.endswith(last) else v for k, v in state.items()})
    for validate in (True, False):
        q = defense(p, validate=validate)
        assert float(moves(defense, p).max()) <= EPSILON + 2e-7
        assert torch.equal(label_of(q), label_of(p)) and not torch.equal(q, p)


@pytest.mark.parametrize("objective", ["decoy", "alignment", "equilibrium"])
def test_what_is_derived_follows_a_part_that_is_loaded(
    fitted: dict[str, mp.LPA], objective: str
) -> None:
    defense = copy.deepcopy(fitted[objective])
    p, x = world(300, K, 3, 4, seed=21)
    other = mp.LPA.fit(p, x, objective=objective, key=3)
    q = defense(p)
    if objective == "equilibrium":
        mine, theirs = (one.objective.candidates for one in (defense, other))
        networks = mine.guide
        networks.load_state_dict(theirs.guide.state_dict())
    else:
        mine, networks = defense.objective, defense.objective.surrogate
        networks.load_state_dict(other.objective.surrogate.state_dict())
    assert not torch.equal(defense(p), q)
    assert torch.equal(mine.recovered, mine.bank.recovered(networks))


@pytest.mark.parametrize("budget", [1e-5, 1e-3, 5e-3])
@pytest.mark.parametrize("objective", ["direction", "ascent"])
def test_a_small_budget_is_met(objective: str, budget: float) -> None:
    p, x = world(100, K, 5)
    defense = mp.LPA.fit(p, x, objective=objective, budget=budget, key=1)
    assert float(moves(defense, p).mean()) == pytest.approx(budget, rel=0.05)


@pytest.mark.parametrize("norm", ["l1", *later("l2", "linf")])
@pytest.mark.parametrize(
    ("objective", "budget"),
    [
        ("decoy", 0.1),
        ("ascent", 0.3),
        ("direction", 0.05),
        ("alignment", 0.1),
        *later(("alignment-full", 0.1)),
    ],
)
def test_a_budget_is_met(objective: str, budget: float, norm: str) -> None:
    p, x = world(100, K, 5)
    defense = mp.LPA.fit(p, x, objective=objective, budget=budget, norm=norm, key=1)
    assert float(moves(defense, p).mean()) == pytest.approx(budget, rel=0.1)


def test_epsilon_caps_a_row_where_there_is_a_budget_too() -> None:
    p, x = world(100, K, 5)
    defense = mp.LPA.fit(p, x, objective="ascent", epsilon=0.15, budget=0.1, key=1)
    moved = moves(defense, p)
    assert float(moved.mean()) == pytest.approx(0.1, rel=0.1)
    assert float(moved.max()) <= 0.15 + 2e-7 and defense.epsilon <= 0.15
    with pytest.raises(ValueError, match=r"epsilon=0\.05 lets the rows reach, got 0\.1"):
        mp.LPA.fit(p, x, objective="ascent", epsilon=0.05, budget=0.1, key=1)


def test_epsilon_without_a_budget() -> None:
    defense = mp.LPA.fit(*world(40, K, 2), objective="direction", epsilon=1.5, norm="l2", key=1)
    assert defense.epsilon == 1.5 and defense.norm == "l2"


# Saving and loading.


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_saved_defense_answers_the_same_bits(
    fitted: dict[str, mp.LPA], objective: str, tmp_path: Path
) -> None:
    p, _ = world(100, K, seed=3)
    path = tmp_path / "lpa.safetensors"
    fitted[objective].save(path)
    for where in (path, str(path)):
        assert torch.equal(mp.LPA.load(where, **key_of(objective))(p), fitted[objective](p))
    if OBJECTIVES[objective].keyed:
        assert not torch.equal(mp.LPA.load(path, key=2)(p), fitted[objective](p))
    else:
        with pytest.raises(ValueError, match="expected no key"):
            mp.LPA.load(path, key=2)


def test_settings_are_saved_too(tmp_path: Path) -> None:
    path = tmp_path / "lpa.safetensors"
    fit = {"epsilon": 0.123456789, "norm": "linf", "on_invalid": "label"}
    defense = mp.LPA.fit(*world(40, K, 2, 3), objective="decoy", key=1, **fit)
    defense.objective.grid = 0.03
    defense.save(path)
    loaded = mp.LPA.load(path, key=1)
    assert {name: getattr(loaded, name) for name in fit} == fit
    assert loaded.objective.grid == 0.03
    assert loaded.objective.surrogate.input_shape == (2, 3)
    assert not loaded(torch.full((1, K), torch.nan)).isnan().any()


def test_another_file_is_refused(tmp_path: Path) -> None:
    mp.LFP(rate=0.1).save(tmp_path / "lfp.safetensors")
    with pytest.raises(ValueError, match=r"expected a file saved by LPA\.save, got LFP"):
        mp.LPA.load(tmp_path / "lfp.safetensors")


# How it is called.


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_answers_are_the_same_in_every_mode(fitted: dict[str, mp.LPA], objective: str) -> None:
    p, _ = world(40, K, seed=3)
    expected = fitted[objective](p)
    modes: list[Callable[[], Any]] = [nullcontext, torch.no_grad, torch.inference_mode]
    for mode in modes:
        with mode():
            assert torch.equal(fitted[objective](p.clone()), expected)
    wanting = fitted[objective](p.clone().requires_grad_())
    assert torch.equal(wanting, expected) and not wanting.requires_grad


@pytest.mark.parametrize("objective", unless(("decoy", "direction"), OBJECTIVES))
def test_a_defense_may_be_fitted_and_loaded_under_inference_mode(
    fitted: dict[str, mp.LPA], objective: str, tmp_path: Path
) -> None:
    p, _ = world(40, K, seed=3)
    fitted[objective].save(tmp_path / "lpa.safetensors")
    with torch.inference_mode():
        loaded = mp.LPA.load(tmp_path / "lpa.safetensors", **key_of(objective))
    assert torch.equal(loaded(p), fitted[objective](p))
    with torch.inference_mode():
        refitted = mp.LPA.fit(
            *world(300, K, 3, 4), objective=objective, epsilon=EPSILON, **key_of(objective)
        )
    assert torch.equal(refitted(p), fitted[objective](p))


@pytest.mark.parametrize("objective", unless(("decoy", "direction", "generator"), OBJECTIVES))
def test_numpy_in_numpy_out(objective: str) -> None:
    p, x = world(60, K, 4)
    defense = mp.LPA.fit(p.numpy(), x.numpy(), objective=objective, **key_of(objective))
    q = defense(p.numpy())
    assert isinstance(q, np.ndarray) and q.dtype == np.float32
    same = mp.LPA.fit(p, x, objective=objective, **key_of(objective))
    assert np.array_equal(q, same(p).numpy())
    half = defense(p.numpy().astype(np.float16))
    assert isinstance(half, np.ndarray) and half.dtype == np.float16


@pytest.mark.parametrize("shape", [(3, 6, 6), ()])
def test_inputs_of_any_shape(shape: tuple[int, ...]) -> None:
    p, x = world(50, K, *shape)
    for objective in ("equilibrium", "decoy"):
        defense = mp.LPA.fit(p, x, objective=objective, key=1)
        assert (label_of(defense(p)) == label_of(p)).all()
    assert defense.objective.surrogate.input_shape == shape
    assert defense.objective.surrogate.reconstruct(p).shape == x.shape


def test_inputs_of_other_kinds() -> None:
    p, _ = world(50, K)
    pixels = torch.randint(0, 256, (50, 1, 4, 4), dtype=torch.uint8)
    from_bytes, from_floats = (mp.LPA.fit(p, x, key=1)(p) for x in (pixels, pixels.double()))
    assert torch.equal(from_bytes, from_floats)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_two_classes(objective: str) -> None:
    defense = mp.LPA.fit(*world(60, 2, 4), objective=objective, epsilon=0.1, **key_of(objective))
    p = torch.cat([draw(d, 50, 2, seed=4) for d in DISTRIBUTIONS]).float()
    q = defense(p)
    assert (label_of(q) == label_of(p)).all() and float(moves(defense, p).max()) <= 0.1 + 2e-7


@pytest.mark.parametrize("objective", SPENDERS)
@pytest.mark.parametrize("n", [2, 3, 7])
def test_fit_on_few_rows(objective: str, n: int) -> None:
    defense = mp.LPA.fit(*world(n, K, 6), objective=objective, key=1)
    p, _ = world(80, K, seed=4)
    q = defense(p)
    assert torch.isfinite(q).all() and (label_of(q) == label_of(p)).all()
    assert float(moves(defense, p).median()) > 0.95 * EPSILON


@pytest.mark.parametrize("objective", SPENDERS)
def test_no_rows_and_one(fitted: dict[str, mp.LPA], objective: str) -> None:
    p, _ = world(1, K, seed=4)
    assert fitted[objective](p[:0]).shape == (0, K)
    assert 0 < float(moves(fitted[objective], p)) <= EPSILON + 2e-7


def test_a_class_without_bank_vectors_moves_too() -> None:
    p, x = world(200, K, 4)
    keep = label_of(p) != 3
    defense = mp.LPA.fit(p[keep], x[keep], objective="decoy", epsilon=EPSILON, key=1)
    rows, _ = world(600, K, seed=4)
    rows = rows[label_of(rows) == 3]
    assert len(rows) > 20 and (label_of(defense(rows)) == 3).all()
    assert float(moves(defense, rows).min()) > 0.5 * EPSILON


def test_a_saturated_classifier() -> None:
    """All outputs one-hot: every bank vector of a label is the query itself."""
    p, x = draw("one-hot", 100, K).float(), torch.rand(100, 4)
    defense = mp.LPA.fit(p, x, objective="decoy", epsilon=EPSILON, key=1)
    assert (label_of(defense(p)) == label_of(p)).all()
    assert float(moves(defense, p).min()) > 0.5 * EPSILON


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_deep_copy_answers_the_same(fitted: dict[str, mp.LPA], objective: str) -> None:
    p, _ = world(40, K, seed=3)
    twin = copy.deepcopy(fitted[objective])
    assert twin is not fitted[objective] and torch.equal(twin(p), fitted[objective](p))


@pytest.mark.parametrize("objective", SPENDERS)
def test_repr_tells_the_settings_and_not_the_key(objective: str) -> None:
    defense = mp.LPA.fit(*world(20, K, 2), objective=objective, key=987_654_321)
    shown = repr(defense)
    assert f"objective='{objective}', epsilon=0.2, norm='l1'" in shown
    secrets = ["987654321", *(str(word) for word in defense._key.words)]
    assert not any(secret in shown for secret in secrets) and "key" not in shown.lower()


def test_it_tells_what_it_realised() -> None:
    p, x = draw("plain", 60, 10).float(), torch.rand(60, 4)
    assert mp.LPA.fit(p, x, objective="decoy", key=1).realised is None
    first = mp.LPA.fit(p, x, objective="decoy", budget=0.1, key=1)
    moved = float((first(p) - p).abs().sum(1).mean())
    assert first.realised == pytest.approx(moved) == pytest.approx(0.1, rel=0.06)
    second = mp.LPA.fit(p, x, objective="decoy", epsilon=0.3, key=1)
    second.load_state_dict(first.state_dict())
    assert second.realised == first.realised
    with pytest.raises(ValueError, match="realised"):
        second.set_extra_state(torch.tensor([0.1, 3.0], dtype=torch.float64))


def test_a_codebook_tells_what_fresh_rows_spend() -> None:
    p, x = world(300, 5, 4)
    book = mp.LPA.fit(p, x, objective="codebook", budget=0.3)
    fresh, _ = world(2000, 5, seed=7)
    assert book.realised == pytest.approx(float((book(fresh) - fresh).abs().sum(1).mean()), rel=0.2)


@pytest.mark.parametrize(
    ("dtype", "epsilon"),
    [(torch.bfloat16, 1e-3), (torch.float16, 1e-4), (torch.float32, 1e-8), (torch.float64, 1e-17)],
)
def test_a_move_that_the_dtype_cannot_hold_is_refused(dtype: torch.dtype, epsilon: float) -> None:
    p = draw("plain", 40, 2, seed=1).to(dtype)
    with pytest.raises(ValueError, match=rf"epsilon of at least .* for rows in {dtype}, .* wider"):
        mp.lpa(p, epsilon=epsilon, key=1)
    held = 2 * torch.finfo(dtype).eps
    assert bool((mp.lpa(p, epsilon=held, key=1) != p).any(1).double().mean() > 0.5)
