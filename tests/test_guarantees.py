"""The guarantees of the design, numbered as there: rows, determinism, batch invariance, failing closed, the key."""

from __future__ import annotations

import math
import multiprocessing
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from distributions import DISTRIBUTIONS, directions, draw
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import mipoison as mp
from mipoison.defenses.baselines import GaussianNoise, LabelOnly, LaplaceNoise, Rounding
from mipoison.reference import label_of

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
    exact, centre = q.double(), p.double() / p.double().sum(1, keepdim=True)
    assert torch.isfinite(exact).all() and (exact >= 0).all()
    top = exact.gather(1, label[:, None])
    others = exact.scatter(1, label[:, None], -1.0)
    assert (top > others).all()
    assert float((exact.sum(1) - 1).abs().max()) <= (slack or 1e-6)
    moved = torch.linalg.vector_norm(exact - centre, ORDER[norm], dim=1)
    ulp = torch.finfo(p.dtype).eps
    # Strictness outranks the ball by one ulp of the label's entry.
    assert float((moved - epsilon).max()) <= (slack + ulp if narrow else 2e-7)


@pytest.fixture(scope="module")
def fitted() -> dict[str, Callable[[Tensor], Tensor]]:
    """Every defense of the package, fitted on the same small data."""
    outputs, inputs = draw("plain", 200, K).float(), torch.rand(200, 6, 6)
    return {
        "decoy": mp.LPA.fit(outputs, inputs, epsilon=0.2, key=1),
        "ascent": mp.LPA.fit(outputs, inputs, objective="ascent", epsilon=0.2, key=1),
        "direction": mp.LPA.fit(outputs, inputs, objective="direction", epsilon=0.2, key=1),
        "lfp": mp.LFP.fit(outputs, inputs, rate=0.3, rows="random", key=1),
        "lfp-margin": mp.LFP.fit(outputs, inputs, rate=0.3, targets="runner_up", key=1),
        "label-only": LabelOnly(),
        "rounding": Rounding(1),
        "laplace": LaplaceNoise(scale=0.05, key=1),
        "gaussian": GaussianNoise(scale=0.05, key=1),
    }


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


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("objective", ["decoy", "ascent", "direction"])
def test_1_lpa_keeps_the_contract_of_a_row(
    fitted: dict[str, mp.LPA], objective: str, distribution: str, dtype: torch.dtype
) -> None:
    p = draw(distribution, 130, K, seed=9).to(dtype)
    assert_row_contract(fitted[objective](p), p, 0.2, "l1", label_of(p))


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
q = mp.LPA.fit(p, x, key=b"fixed")(p)
print(q.numpy().tobytes().hex())
print(mp.LFP.fit(p, x, rate=0.2, rows="random", key=5)(p).numpy().tobytes().hex())
"""


def test_2_the_same_answer_across_calls_and_processes(fitted: dict[str, mp.LPA]) -> None:
    p = draw("plain", 40, K, seed=2).float()
    for defense in fitted.values():
        assert torch.equal(defense(p), defense(p))
    runs = [
        subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert runs[0].stdout == runs[1].stdout and len(runs[0].stdout) > 1000


def test_2_another_key_gives_other_answers() -> None:
    p = draw("plain", 40, K, seed=2).float()
    assert not torch.equal(mp.lpa(p, key=1), mp.lpa(p, key=2))
    assert not torch.equal(mp.lfp(p, rate=0.5, key=1), mp.lfp(p, rate=0.5, key=2))


# 3. Batch invariance, bit for bit.


@pytest.mark.parametrize("k", [2, 10, 100])
def test_3_a_row_does_not_know_its_batch(k: int) -> None:
    outputs, inputs = draw("plain", 150, k).float(), torch.rand(150, 12)
    p = torch.cat([draw(d, 30, k, seed=4) for d in DISTRIBUTIONS]).float()
    defenses = [
        mp.LPA.fit(outputs, inputs, key=1),
        mp.LPA.fit(outputs, inputs, objective="ascent", key=1),
        mp.LPA.fit(outputs, inputs, objective="direction", key=1),
        mp.LFP.fit(outputs, inputs, rate=0.3, rows="random", key=1),
        mp.LFP.fit(outputs, inputs, rate=0.3, rows="margin", targets="surrogate", key=1),
        LaplaceNoise(scale=0.05, key=1),
        GaussianNoise(scale=0.05, key=1),
        Rounding(1),
    ]
    order = torch.randperm(len(p))
    for defense in defenses:
        whole = defense(p)
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            assert torch.equal(defense(p[order]), whole[order])
            for start, stop in ((0, 1), (17, 18), (3, 70), (100, 210)):
                assert torch.equal(defense(p[start:stop]), whole[start:stop])
        torch.set_num_threads(1)


@pytest.mark.parametrize("backend", ["cpp", "reference"])
@pytest.mark.parametrize(("n", "k"), [(64, 10), (9, 1000), (3, 40_000)])
def test_3_an_operation_does_not_know_its_batch(n: int, k: int, backend: str) -> None:
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


# 4. Failing closed.

_BAD_ROWS = {
    "nan": (lambda p: p.index_fill(0, torch.tensor([1]), math.nan), "it holds NaN or Inf"),
    "inf": (lambda p: p.index_fill(0, torch.tensor([1]), math.inf), "it holds NaN or Inf"),
    "negative": (lambda p: p - torch.eye(4, K) * 0.9, "its smallest entry is -"),
    "sum": (lambda p: p * 1.01, "its sum is 1.01"),
    "logits": (lambda p: p.log() + 9, "torch.softmax"),
}


@pytest.mark.parametrize("kind", _BAD_ROWS)
def test_4_rows_that_are_no_probabilities_are_named(fitted: dict[str, mp.LPA], kind: str) -> None:
    spoil, words = _BAD_ROWS[kind]
    bad = spoil(draw("flat", 4, K).float())
    calls: list[Callable[[], object]] = [
        lambda: mp.lpa(bad),
        lambda: mp.lfp(bad),
        lambda: mp.flip(bad, rate=0.5),
        lambda: mp.move(bad, bad, epsilon=0.1),
        lambda: mp.project(torch.zeros_like(bad), center=bad, epsilon=0.1),
        lambda: mp.step(
            torch.zeros_like(bad), torch.ones_like(bad), center=bad, alpha=0.1, epsilon=0.1
        ),
        *(lambda d=d: d(bad) for d in fitted.values()),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"rows? (0, )?1") as error:
            call()
        assert words in str(error.value)


def test_4_on_invalid_label_answers_safely_and_counts() -> None:
    outputs, inputs = draw("plain", 60, K).float(), torch.rand(60, 5)
    p = draw("plain", 6, K).float()
    p[1, 3] = math.nan
    p[4] *= 3
    for defense in (
        mp.LPA.fit(outputs, inputs, key=1, on_invalid="label"),
        mp.LFP.fit(outputs, inputs, key=1, on_invalid="label"),
        LabelOnly(on_invalid="label"),
        LaplaceNoise(key=1, on_invalid="label"),
        Rounding(on_invalid="label"),
    ):
        q = defense(p)
        assert torch.equal(q[1], torch.full((K,), 1 / K))
        assert float(q[4].max()) == 1.0 and int(q[4].argmax()) == int(p[4].argmax())
        assert defense.failures == 2
        clean = defense(p[[0, 2, 3, 5]])
        assert torch.equal(q[[0, 2, 3, 5]], clean) and defense.failures == 2


def test_4_without_validation_nothing_undefended_comes_out() -> None:
    p = draw("plain", 3, K).float()
    p[1, 0] = math.nan
    g = directions(3, K).float()
    q = mp.step(p, g, center=p, alpha=0.1, epsilon=0.1, validate=False)
    assert torch.equal(q[1], torch.full((K,), 1 / K))
    other = (label_of(p) + 1) % K
    empty = mp.project(g, center=p, label=other, epsilon=0.0, validate=False)
    assert float(empty[0, other[0]]) == 1.0


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda p: mp.lpa(p[:, :1] * 0 + 1), ValueError, "K >= 2"),
        (lambda p: mp.lpa(p[0]), ValueError, r"vector\[None, :\]"),
        (lambda p: mp.lpa(p[None]), ValueError, r"shape \[N, K\]"),
        (lambda p: mp.lpa(p.long()), TypeError, "int64"),
        (lambda p: mp.lpa(p.tolist()), TypeError, "got list"),
        (lambda p: mp.lpa(p.numpy().astype("int32")), TypeError, "int32"),
        (lambda p: mp.lpa(p, epsilon=-0.1), ValueError, "got -0.1"),
        (lambda p: mp.lpa(p, epsilon=0), ValueError, r"\(0, 2\]"),
        (lambda p: mp.lpa(p, epsilon=math.nan), ValueError, "nan"),
        (lambda p: mp.lpa(p, epsilon="much"), TypeError, "got str"),
        (lambda p: mp.lpa(p, norm="l3"), ValueError, "'l3'"),
        (lambda p: mp.lpa(p, key="text"), TypeError, "int, bytes or None"),
        (lambda p: mp.lfp(p, rate=1.5), ValueError, "rate"),
        (lambda p: mp.project(p, epsilon=0.1), ValueError, "center"),
        (lambda p: mp.project(p, center=p, epsilon=-1.0), ValueError, "epsilon"),
        (lambda p: mp.project(p, center=p[:, :5]), ValueError, "shape"),
        (lambda p: mp.project(p, center=p.double()), ValueError, "dtype"),
        (lambda p: mp.project(p, margin=2.0), ValueError, "margin"),
        (lambda p: mp.project(p, label=[0.5] * 4), TypeError, "integers"),
        (lambda p: mp.project(p, label=[0]), ValueError, "shape"),
        (lambda p: mp.project(p, label=[0, 1, 2, 99]), ValueError, "99 in row 3"),
        (lambda p: mp.project(p, center=p, label=[9] * 4, epsilon=0.0), ValueError, "empty set"),
        (lambda p: mp.step(p, p * math.inf, alpha=1.0), ValueError, "expected g to be finite"),
        (lambda p: mp.move(p, p.flip(1), epsilon=0.1), ValueError, "label of p"),
        (lambda p: mp.move(p, p, epsilon=0.1, norm="l2", style="waterfill"), ValueError, "'l1'"),
        (lambda p: mp.flip(p, targets=[0, 1, 2, 10], rate=1.0), ValueError, "10 in row 3"),
        (lambda p: mp.row_bits(p, draw=-1), ValueError, "draw"),
        (lambda p: mp.row_bits(p, words=0), ValueError, "words"),
        (lambda p: mp.step(p, p, alpha=0.1, backend="cuda"), ValueError, "'cuda'"),
        (lambda p: mp.step(p, p, alpha=0.1, backend="triton"), RuntimeError, "triton"),
        (lambda p: mp.LPA.fit(p, torch.rand(3, 2)), ValueError, "4"),
        (lambda p: mp.LPA.fit(p, torch.rand(4, 2), budget=3.0), ValueError, "budget"),
        (lambda p: mp.LPA.fit(p, torch.rand(4, 2), objective="magic"), ValueError, "decoy"),
        (lambda p: mp.Surrogate.fit(p, torch.full((4, 2), math.nan)), ValueError, "inputs"),
        (lambda p: mp.LFP(targets="surrogate"), ValueError, "LFP.fit"),
        (lambda p: mp.Defended(torch.nn.Identity(), lambda q: q), TypeError, "mp.LPA"),
    ],
)
def test_4_wrong_arguments_say_what_was_expected(
    call: Callable[[Tensor], object], error: type[Exception], words: str
) -> None:
    p = draw("plain", 4, K).float()
    with pytest.raises(error, match=words) as caught:
        call(p)
    assert "expected" in str(caught.value) or "triton" in str(caught.value)


def test_4_another_number_of_classes_is_refused(fitted: dict[str, mp.LPA]) -> None:
    with pytest.raises(ValueError, match="K=10 classes, as fitted, got K=7"):
        fitted["decoy"](draw("plain", 3, 7).float())


def test_4_a_label_without_bank_vectors_still_moves() -> None:
    outputs = draw("plain", 80, K)
    outputs = outputs[label_of(outputs) != 3].float()
    defense = mp.LPA.fit(outputs, torch.rand(len(outputs), 4), key=0)
    rows = torch.zeros(3, K)
    rows[0, 3] = 1.0
    rows[1] = torch.full((K,), 0.05)
    rows[1, 3] = 0.55
    rows[2] = torch.softmax(torch.eye(K)[3], 0)
    q = defense(rows)
    assert (label_of(q) == 3).all()
    assert ((q - rows).abs().sum(1) > 0.05).all()


def _child(p: Tensor, g: Tensor, queue: multiprocessing.Queue[bytes]) -> None:
    torch.set_num_threads(2)
    # Read through NumPy: torch's own thread pool is what does not survive a fork.
    queue.put(mp.step(p, g, alpha=0.1).numpy().tobytes())


def test_4_a_forked_child_does_not_hang() -> None:
    p, g = draw("plain", 2000, 100).float(), directions(2000, 100).float()
    torch.set_num_threads(2)
    answer = mp.step(p, g, alpha=0.1).numpy().tobytes()
    context = multiprocessing.get_context("fork")
    queue: multiprocessing.Queue[bytes] = context.Queue()
    child = context.Process(target=_child, args=(p, g, queue))
    child.start()
    try:
        assert queue.get(timeout=60) == answer
    finally:
        child.kill()


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
