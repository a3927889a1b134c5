"""The guarantees of the design, numbered as there: rows, determinism, batch invariance, failing closed, the key."""

from __future__ import annotations

import contextlib
import io
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from distributions import DISTRIBUTIONS, directions, draw
from functorch.compile import aot_function, nop
from hypothesis import given, settings
from hypothesis import strategies as st
from later import later
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

import mipoison as mp
from mipoison.defenses import (
    Contract,
    GaussianNoise,
    HighConfidence,
    LaplaceNoise,
    ModelGuardS,
    ModelGuardW,
    OneParameter,
    Purifier,
    ReverseSigmoid,
    Rounding,
    Swap,
    Temperature,
    TopK,
)
from mipoison.defenses.lpa import OBJECTIVES
from mipoison.reference import label_of

KEY = b"a secret of this test"
ORDER = {"l1": 1, "l2": 2, "linf": math.inf}
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
K = 10


def ulp_halves(dtype: torch.dtype, k: int) -> float:
    """What rounding k entries of at most one can add up to."""
    return k * torch.finfo(dtype).eps / 2


def assert_row_contract(q: Tensor, p: Tensor, epsilon: float, norm: str, label: Tensor) -> None:
    """Guarantee 1, measured in float64 from the renormalised row."""
    narrow = p.dtype in (torch.float16, torch.bfloat16)
    slack = ulp_halves(p.dtype, p.shape[1]) if narrow else 0.0
    exact, center = q.double(), p.double() / p.double().sum(1, keepdim=True)
    assert torch.isfinite(exact).all() and (exact >= 0).all()
    top = exact.gather(1, label[:, None])
    others = exact.scatter(1, label[:, None], -1.0)
    assert (top > others).all()
    assert float((exact.sum(1) - 1).abs().max()) <= (slack or 1e-6)
    moved = torch.linalg.vector_norm(exact - center, ORDER[norm], dim=1)
    ulp = torch.finfo(p.dtype).eps
    # Strictness outranks the ball by one ulp of the label's entry.
    assert float((moved - epsilon).max()) <= (slack + ulp if narrow else 2e-7)


# 1. Every returned row.


@settings(max_examples=150, deadline=None)
@given(
    distribution=st.sampled_from(DISTRIBUTIONS),
    k=st.integers(2, 40),
    seed=st.integers(0, 10_000),
    norm=st.sampled_from(sorted(ORDER)),
    epsilon=st.one_of(st.just(0.0), st.floats(1e-6, 2.0)),
    alpha=st.floats(0, 1e4),
    margin=st.floats(0, 1),
    dtype=st.sampled_from(DTYPES),
)
def test_1_step_keeps_the_contract_of_a_row(
    distribution: str,
    k: int,
    seed: int,
    norm: str,
    epsilon: float,
    alpha: float,
    margin: float,
    dtype: torch.dtype,
) -> None:
    p = draw(distribution, 5, k, seed).to(dtype)
    g = directions(5, k, seed).to(dtype)
    q = mp.step(p, g, center=p, alpha=alpha, epsilon=epsilon, norm=norm, margin=margin, shrink=True)
    assert_row_contract(q, p, epsilon, norm, label_of(p))


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, *later(torch.float64, torch.float16)]
)
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_1_lpa_keeps_the_contract_of_a_row(
    fitted: dict[str, mp.LPA], objective: str, distribution: str, dtype: torch.dtype
) -> None:
    p = draw(distribution, 40, K, seed=9).to(dtype)
    assert_row_contract(fitted[objective](p), p, 0.2, "l1", label_of(p))


@pytest.mark.full
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_1_no_label_changes_in_a_hundred_thousand_rows(
    fitted: dict[str, mp.LPA], objective: str, dtype: torch.dtype
) -> None:
    each = -(-100_000 // len(DISTRIBUTIONS))
    for distribution in DISTRIBUTIONS:
        p = draw(distribution, each, K, seed=10).to(dtype)
        assert_row_contract(fitted[objective](p), p, 0.2, "l1", label_of(p))


BASELINES = {
    "label-only": 2.0,
    "rounding": 2.0,
    "laplace": 2.0,
    "gaussian": 2.0,
    "top-k": 2.0,
    "flatter": 2.0,
    "sharper": 2.0,
    "reverse-sigmoid": 2.0,
    "high-confidence": 2.0,
    "one-parameter": 2.0,
    "purifier": 2.0,
    "swap": 0.2,
    "contract": 0.2,
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("name", BASELINES)
def test_1_baselines_keep_the_contract_of_a_row(
    fitted: dict[str, mp.LPA], name: str, distribution: str, dtype: torch.dtype
) -> None:
    p = draw(distribution, 40, K, seed=9).to(dtype)
    assert_row_contract(fitted[name](p), p, BASELINES[name], "l1", label_of(p))


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_1_lpa_in_the_other_norms(norm: str) -> None:
    outputs, inputs = draw("plain", 60, K).float(), torch.rand(60, 5)
    defense = mp.LPA.fit(outputs, inputs, epsilon=0.05, norm=norm, key=1)
    p = draw("peaked", 60, K, seed=3).float()
    assert_row_contract(defense(p), p, 0.05, norm, label_of(p))


def test_1_inputs_are_renormalised_within_the_tolerance() -> None:
    p = draw("plain", 50, K).float() * (1 + 9e-5)
    assert_row_contract(mp.lpa(p, epsilon=0.1, key=0), p, 0.1, "l1", label_of(p))


# 2. Determinism.

_PROGRAM = """
import torch, mipoison as mp
torch.set_num_threads(1)
torch.manual_seed(0)
p, x = torch.softmax(torch.randn(96, 10), 1), torch.rand(96, 5)
q = mp.LPA.fit(p, x, key=b"fixed, of many bytes")(p)
print(q.numpy().tobytes().hex())
print(mp.LFP.fit(p, x, rate=0.2, rows="random", key=5)(p).numpy().tobytes().hex())
"""


@pytest.mark.whole_fits
def test_2_the_same_answer_across_calls_and_processes(fitted: dict[str, mp.LPA]) -> None:
    p = draw("plain", 40, K, seed=2).float()
    for defense in fitted.values():
        assert torch.equal(defense(p), defense(p))
    there = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True
    ).stdout
    here = io.StringIO()
    with contextlib.redirect_stdout(here), torch.random.fork_rng():
        exec(_PROGRAM, {})
    assert there == here.getvalue() and len(there) > 1000


def test_2_another_key_gives_other_answers() -> None:
    p = draw("plain", 40, K, seed=2).float()
    assert not torch.equal(mp.lpa(p, key=1), mp.lpa(p, key=2))
    assert not torch.equal(mp.lfp(p, rate=0.5, key=1), mp.lfp(p, rate=0.5, key=2))


def test_2_autocast_invariance(fitted: dict[str, mp.LPA]) -> None:
    # Many rows: where a choice among moves is close, fewer bits make another.
    p = draw("plain", 400, K, seed=2).float()
    for defense in fitted.values():
        expected = defense(p)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(defense(p), expected)


# 3. Batch invariance, bit for bit.


def test_3_no_rows_are_answered_by_no_rows(fitted: dict[str, mp.LPA]) -> None:
    for name, defense in fitted.items():
        for dtype in (torch.float32, torch.float64, torch.bfloat16):
            none = torch.empty(0, K, dtype=dtype)
            for answer in (defense(none), defense(none, validate=False)):
                assert answer.shape == (0, K) and answer.dtype == dtype, name
        assert defense(np.empty((0, K), np.float32)).shape == (0, K)
        if defense._key is not None:
            assert defense(none, ids=[]).shape == (0, K)
        served = mp.Defended(torch.nn.Softmax(-1), defense)
        assert served(torch.empty(0, K)).shape == (0, K)


@pytest.mark.parametrize("k", [*later(2), 10, *later(100)])
def test_3_batch_invariance(k: int) -> None:
    outputs, inputs = draw("plain", 200, k).float(), torch.rand(200, 12)
    p = torch.cat([draw(d, 8, k, seed=4) for d in DISTRIBUTIONS]).float()
    defenses = [
        mp.LPA.fit(outputs, inputs, objective="equilibrium", key=1),
        mp.LPA.fit(outputs, inputs, objective="cutoff"),
        mp.LPA.fit(outputs, inputs, objective="generator", key=1),
        mp.LPA.fit(outputs, inputs, objective="decoy", key=1),
        mp.LPA.fit(outputs, inputs, objective="ascent", key=1),
        mp.LPA.fit(outputs, inputs, objective="direction", key=1),
        mp.LPA.fit(outputs, inputs, objective="alignment", key=1),
        mp.LFP.fit(outputs, inputs, rate=0.3, rows="random", key=1),
        mp.LFP.fit(outputs, inputs, rate=0.3, rows="margin", targets="surrogate", key=1),
        mp.LFP.fit(outputs, inputs, rate=0.3, rows="leak", targets="surrogate", key=1),
        LaplaceNoise(scale=0.05, key=1),
        GaussianNoise(scale=0.05, key=1),
        Rounding(1),
        TopK(3),
        Temperature(temperature=3.0),
        ReverseSigmoid(),
        HighConfidence(cutoff=0.1),
        OneParameter(privacy_budget=50.0, key=1),
        Purifier.fit(outputs, epochs=3, key=1),
        Swap.fit(outputs, key=1),
        Contract.fit(outputs),
        ModelGuardW(epsilon=0.2),
        ModelGuardS.fit(outputs),
    ]
    order = torch.randperm(len(p))
    for defense in defenses:
        whole = defense(p)
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            assert torch.equal(defense(p[order]), whole[order])
            for start, stop in ((0, 1), (17, 18), (3, 40)):
                assert torch.equal(defense(p[start:stop]), whole[start:stop])
        torch.set_num_threads(1)


@pytest.mark.full
def test_3_batch_invariance_of_the_full_alignment() -> None:
    """Apart, on fewer batches: its gradients take ten times as long as those of the others."""
    outputs, inputs = draw("plain", 150, K).float(), torch.rand(150, 12)
    p = torch.cat([draw(d, 10, K, seed=4) for d in DISTRIBUTIONS]).float()
    defense = mp.LPA.fit(outputs, inputs, objective="alignment-full", key=1)
    whole, order = defense(p), torch.randperm(len(p))
    for threads in (1, 2):
        torch.set_num_threads(threads)
        assert torch.equal(defense(p[order]), whole[order])
        assert torch.equal(defense(p[17:18]), whole[17:18])


@pytest.mark.parametrize("backend", ["cpp", "reference"])
@pytest.mark.parametrize(("n", "k"), [(64, 10), (9, 1000), (3, 40_000)])
def test_3_batch_invariance_of_operations(n: int, k: int, backend: str) -> None:
    p, g = draw("plain", n, k).float(), directions(n, k).float()
    balls = ((None, "l1"), (0.2, "l1"), (0.05, "linf"), (0.1, "l2"))
    for epsilon, norm in balls[: 1 if k > 1000 and backend == "reference" else 4]:

        def step(rows: slice) -> Tensor:
            return mp.step(
                p[rows],
                g[rows],
                center=p[rows],
                alpha=0.1,
                epsilon=epsilon,  # noqa: B023
                norm=norm,  # noqa: B023
                backend=backend,
            )

        whole = step(slice(None))
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            assert torch.equal(step(slice(None)), whole)
            for i in range(0, n, max(1, n // 3)):
                assert torch.equal(step(slice(i, i + 1)), whole[i : i + 1])


# 5. The key never leaves.


def test_5_the_key_never_leaves(fitted: dict[str, mp.LPA], tmp_path: object) -> None:
    secret = b"a secret that nobody may read"
    outputs, inputs = draw("plain", 60, K).float(), torch.rand(60, 5)
    for kind in (mp.LPA, mp.LFP):
        defense = kind.fit(outputs, inputs, key=secret)
        words = defense._key.words
        path = f"{tmp_path}/defense.safetensors"
        defense.save(path)
        with open(path, "rb") as file:
            saved = file.read()
        shown = repr(defense) + str(defense.__dict__) + str(defense.state_dict())
        assert secret not in saved and "nobody may read" not in shown
        for word in words:
            assert str(word) not in shown and str(word).encode() not in saved
            assert np.uint32(word).tobytes() not in saved
        with pytest.raises(TypeError, match="never serialised"):
            torch.save(defense, f"{tmp_path}/module.pt")


def test_5_the_key_shows_in_no_profile_or_trace(tmp_path: Path) -> None:
    p, key = draw("plain", 4, K).float(), KEY
    words = mp.Key(key).words
    with torch.profiler.profile(record_shapes=True) as profile:
        mp.row_bits(p, key=key)
        mp.flip(p, rate=0.5, key=key)
    profile.export_chrome_trace(str(tmp_path / "trace.json"))
    text = (tmp_path / "trace.json").read_text()
    assert "mipoison::flip" in text
    assert not any(str(word) in text for word in words)


KEYED_CALLS: dict[str, Callable[[Tensor], object]] = {
    "words": lambda p: mp.row_bits(p, key=KEY),
    "words of a key": lambda p: mp.row_bits(p, key=mp.Key(KEY)),
    "flips": lambda p: mp.flip(p, rate=0.5, key=KEY, validate=False),
    "noise": lambda p: LaplaceNoise(scale=0.1, key=KEY)(p, validate=False),
}


@pytest.mark.parametrize("mode", ["real", "fake", "symbolic"])
@pytest.mark.parametrize("before", [False, True], ids=["traced", "traced before dispatch"])
@pytest.mark.parametrize("name", KEYED_CALLS)
def test_5_no_traced_graph_holds_the_key(name: str, before: bool, mode: str) -> None:
    p = draw("plain", 4, K).float()
    with pytest.raises(RuntimeError, match=r"expected .* under torch\.export.*make_fx"):
        make_fx(KEYED_CALLS[name], tracing_mode=mode, pre_dispatch=before)(p)


@pytest.mark.parametrize("name", KEYED_CALLS)
def test_5_no_graph_of_autograd_holds_the_key(name: str) -> None:
    with pytest.raises(RuntimeError, match=r"expected .* under torch\.export.*make_fx"):
        aot_function(KEYED_CALLS[name], nop)(draw("plain", 4, K).float())
