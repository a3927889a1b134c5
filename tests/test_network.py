"""`recover`, `pull` and `perturb`: their mathematics, their derivative, their steps, and rows that they refuse."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from distributions import draw
from later import later
from table import rows_of
from torch import Tensor

import mipoison as mp
from mipoison import cpu, reference
from mipoison.nn import initial
from mipoison.reference import label_of
from mipoison.reference.network import LOG_FLOOR, Layers, features
from mipoison.reference.rounding import finish
from mipoison.standards import feature_standards

pytestmark = pytest.mark.whole_fits
OPS = torch.ops.mipoison
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
# Of what is recovered, relative to its largest number, and of a gradient, relative to the row's largest entry: that is
# the small difference of many products.
RECOVERED, PULLED = 2e-6, 2e-4


class Packed:
    """Networks on rows of K classes: members, hidden units, and outputs as many as are asked for."""

    def __init__(self, k: int, *, members: int = 1, width: int = 32, outputs: int = 31) -> None:
        generator = torch.Generator().manual_seed(k + 7 * members + width)
        mean, scale = feature_standards(features(draw("plain", 64, k, seed=3).float()), k)
        shape = len(mean), width, outputs
        state = initial(*shape, members=members, generator=generator, device=torch.device("cpu"))
        # Larger weights than those of a start: units are on and off.
        self.layers = Layers.of(mean, scale, [2 * value for value in state])
        self.packed, self.members, self.width, self.outputs = (
            self.layers.packed(),
            members,
            width,
            outputs,
        )

    @property
    def sizes(self) -> tuple[Tensor, int, int]:
        return self.packed, self.members, self.width


def by_instruction_sets() -> Iterator[str]:
    for name in cpu.instruction_sets():
        with cpu.using(name):
            yield name


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("k", "members", "width", "outputs"),
    [
        *((2, 1, 32, 1), (7, 3, 32, 31), (10, 1, 128, 63), (16, 2, 64, 80), (17, 1, 64, 32)),
        *later((100, 3, 128, 80), (1000, 1, 128, 32), (10, 3, 256, 80), (33, 1, 96, 17)),
    ],
)
def test_agrees_with_the_reference(
    k: int, members: int, width: int, outputs: int, dtype: torch.dtype
) -> None:
    networks = Packed(k, members=members, width=width, outputs=outputs)
    p = rows_of(k, 5).to(dtype)
    found, valid = reference.recover(p, *networks.sizes, outputs)
    assert valid.all()
    size = float(found.abs().max())
    goal = found.roll(1, 0)
    for name in by_instruction_sets():
        recovered, refused = OPS.recover(p, *networks.sizes, outputs)
        assert int(refused) == 0
        assert float((recovered - found).abs().max()) <= RECOVERED * size, name
        for smooth in (False, True):
            gradient, distance, _ = reference.pull(p, goal, *networks.sizes, smooth)
            pulled, far, refused = OPS.pull(p, goal, *networks.sizes, smooth)
            assert int(refused) == 0
            most = gradient.abs().amax(1, keepdim=True)
            assert bool(((pulled - gradient).abs() <= PULLED * most + 1e-6 * size).all()), name
            assert float((far - distance).abs().max()) <= 4 * RECOVERED * size * math.sqrt(outputs)


@pytest.mark.parametrize("smooth", [False, True])
def test_the_reference_pulls_by_the_derivative_of_autograd(smooth: bool) -> None:
    networks = Packed(10, members=3)
    p = draw("plain", 40, 10, seed=5)
    goal = reference.recover(p, *networks.sizes, 31)[0].roll(1, 0)
    layers = networks.layers.to(torch.float64)
    q = p.clone().requires_grad_()
    x = (features(q, smooth=smooth) - layers.mean) * layers.inverse
    hidden = x.expand(3, -1, -1)
    for weight, bias in ((layers.weight0, layers.bias0), (layers.weight1, layers.bias1)):
        h = torch.baddbmm(bias, hidden, weight)
        slope = (h.detach().relu() / 0.5).clamp_max(1) if smooth else (h > 0).double()
        hidden = h.detach().relu() + slope * (h - h.detach())
    error = torch.baddbmm(layers.bias2, hidden, layers.weight2).mean(0)[:, :31] - goal
    (expected,) = torch.autograd.grad(0.5 * error.square().sum(), q)
    gradient, distance, _ = reference.pull(p, goal, *networks.sizes, smooth)
    torch.testing.assert_close(gradient.double(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(distance.double(), error.norm(dim=1), rtol=1e-5, atol=1e-6)


def test_logarithms_are_exact_to_two_units_in_the_last_place() -> None:
    """A network that hands the logarithms through: −log p is positive, so that no unit is switched off."""
    k, lanes = 10, 32
    through = torch.zeros(1, lanes, lanes)
    through[0, torch.arange(k, 2 * k), torch.arange(k)] = -1.0
    one, none = torch.eye(lanes).unsqueeze(0), torch.zeros(1, 1, lanes)
    state = [through, none, one, none, one, none]
    packed = Layers.of(torch.zeros(lanes), torch.ones(lanes), state).packed()
    small = np.concatenate([np.geomspace(1e-9, 0.09, 9000), np.linspace(0.0, 0.09, 1000)])
    p = torch.tensor(small).float().reshape(-1, 1).expand(-1, k).clone()
    p[:, 0] = 1 - p[:, 1:].double().sum(1).float()
    expected = -p.double().clamp_min(LOG_FLOOR).log()
    for name in by_instruction_sets():
        found = OPS.recover(p, packed, 1, lanes, k)[0].double()
        # (A sum of zeros and one term.)
        assert float(((found - expected).abs() / expected.clamp_min(1e-3)).max()) < 2.5e-7, name


def stepped(
    q: Tensor, goal: Tensor, networks: Packed, center: Tensor, near: Tensor | None, **how: float
) -> Tensor:
    """One step by the operators that do its parts."""
    label = label_of(center)
    gradient, distance, _ = OPS.pull(q, goal, *networks.sizes, True)
    size = gradient.abs().amax(1, keepdim=True)
    along = torch.where(size > 0, gradient / size, 0.0).to(q.dtype)
    region = (how["epsilon"], "l1", how["margin"], True)
    there, _ = OPS.step(q, along, center, label, -how["alpha"], *region)
    if near is None:
        return there
    share = (distance / near).unsqueeze(1)
    part = torch.where(share >= 1, there, q + share.to(q.dtype) * (there - q))
    return finish(part, label, torch.zeros(len(q), dtype=torch.float64), q.dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("k", "own"), [(2, True), (10, False), (17, True), *later((321, False))])
def test_perturb_is_its_steps_bit_for_bit(k: int, own: bool, dtype: torch.dtype) -> None:
    networks = Packed(k, members=2, outputs=20)
    p = rows_of(k, 8).to(dtype)
    center = p if own else ((p + 3 * torch.eye(k, dtype=dtype)[label_of(p)]) / 4).to(dtype)
    goal = OPS.recover(p, *networks.sizes, 20)[0].roll(3, 0)
    how = {"alpha": 0.03, "epsilon": 0.8, "margin": 0.001}
    far = (OPS.recover(p, *networks.sizes, 20)[0] - goal).norm(dim=1)
    for name, near in itertools.product(by_instruction_sets(), (None, 0.9 * far + 1e-3)):
        region = (how["epsilon"], "l1", how["margin"], True)
        q = p if near is None else OPS.project(p, center, None, *region)[0]
        for _ in range(4):
            q = stepped(q, goal, networks, center, near, **how)
        given = None if own else center
        answer, refused = OPS.perturb(
            p, goal, *networks.sizes, given, near, 4, how["alpha"], *region, True
        )
        assert int(refused) == 0
        assert torch.equal(answer, q), name


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("norm", ["none", "l1", "l2", "linf"])
def test_one_step_agrees_with_the_reference(norm: str, dtype: torch.dtype) -> None:
    networks = Packed(10, members=2)
    p = rows_of(10, 6).to(dtype)
    goal = reference.recover(p, *networks.sizes, 31)[0].roll(5, 0)
    epsilon, norm = (None, "l1") if norm == "none" else (0.1, norm)
    given = (p, goal, *networks.sizes, None, None, 1, 0.08, epsilon, norm, 0.001, True, True)
    expected, valid = reference.perturb(*given)
    assert valid.all()
    # A row at which the gradient almost vanishes steps in the direction of its rounding.
    gradient, distance, _ = reference.pull(p, goal, *networks.sizes, True)
    known = gradient.norm(dim=1) > 1e-3 * distance
    assert int(known.sum()) > len(p) / 2
    ulp = torch.finfo(dtype).eps
    for name in by_instruction_sets():
        answer, refused = OPS.perturb(*given)
        assert int(refused) == 0
        off = (answer.double() - expected.double()).abs().amax(1)[known]
        assert float(off.max()) <= 2e-5 + 2 * (ulp if ulp > 1e-5 else 0), name


@pytest.mark.parametrize("k", [10, 100])
def test_batch_invariance(k: int) -> None:
    networks = Packed(k, members=3, width=64)
    p = rows_of(k, 18).float()
    goal = OPS.recover(p, *networks.sizes, 31)[0].flip(0)

    def answers(rows: slice) -> tuple[Tensor, ...]:
        some = p[rows], goal[rows]
        region = (0.2, "l1", 0.0, False)
        return (
            OPS.recover(p[rows], *networks.sizes, 31)[0],
            *OPS.pull(*some, *networks.sizes, True)[:2],
            OPS.perturb(*some, *networks.sizes, None, None, 3, 0.1, *region, True)[0],
        )

    whole = answers(slice(None))
    for height in (1, 2, 5, 13, 48, 49, 97):
        parts = [answers(slice(i, i + height)) for i in range(0, len(p), height)]
        joined = tuple(torch.cat(some) for some in zip(*parts, strict=True))
        assert all(torch.equal(a, b) for a, b in zip(whole, joined, strict=True)), height


def test_threads_do_not_change_an_answer() -> None:
    networks = Packed(10, members=2, width=64)
    p = rows_of(10, 400).float()
    goal = OPS.recover(p, *networks.sizes, 31)[0].flip(0)
    before, made = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            region = (0.2, "l2", 0.0, False)
            made.append(OPS.perturb(p, goal, *networks.sizes, None, None, 2, 0.1, *region, True)[0])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(made[0], other) for other in made)


@pytest.mark.parametrize(
    ("dtype", "backend"),
    [
        *((dtype, "cpp") for dtype in DTYPES),
        (torch.float32, "reference"),
        *later(*((dtype, "reference") for dtype in DTYPES[1:])),
    ],
)
def test_labels_balls_and_margins_hold_after_many_steps(dtype: torch.dtype, backend: str) -> None:
    networks = Packed(10, outputs=8)
    p = rows_of(10, 9 if backend == "cpp" else 2).to(dtype)
    # Far away, and toward another row's goal: all constraints bind.
    goal = 10 * torch.randn(len(p), 8, generator=torch.Generator().manual_seed(1))
    slack = 10 * torch.finfo(dtype).eps if torch.finfo(dtype).eps > 1e-5 else 0.0
    for norm, alpha in itertools.product(("l1", "l2", "linf"), (0.3, -0.3)):
        q = mp.perturb(
            *(p, goal, networks),
            **{
                "steps": 5 if backend == "cpp" else 2,
                "alpha": alpha,
                "epsilon": 0.3,
                "norm": norm,
                "margin": 0.01,
            },
            shrink=True,
            smooth=True,
            backend=backend,
        )
        center = p.double() / p.double().sum(1, keepdim=True)
        moved = torch.linalg.vector_norm(
            q.double() - center, {"l1": 1, "l2": 2, "linf": math.inf}[norm], dim=1
        )
        assert float(moved.max()) <= 0.3 + 2e-7 + slack
        assert torch.equal(label_of(q), label_of(p))
        assert float((q.double().sum(1) - 1).abs().max()) <= 1e-6 + slack
        assert float(q.min()) >= 0 and float(moved.median()) > 0.05


@pytest.mark.parametrize("backend", ["cpp", "reference"])
def test_refused_rows(backend: str) -> None:
    networks = Packed(5)
    p = draw("plain", 9, 5, seed=4).float()
    goal = torch.zeros(9, 31)
    near = torch.ones(9)
    bad = p.clone()
    bad[1, 2], bad[3, 0], bad[4] = math.nan, -0.1, 2 * p[4]
    goal[6, 3] = math.inf
    near[8] = 0.0
    broken = [1, 3, 4]
    recovered = mp.recover(bad, networks, validate=False, backend=backend)
    assert (recovered == 0).all(1).nonzero().flatten().tolist() == broken
    with pytest.raises(ValueError, match="rows 1, 3, 4 otherwise"):
        mp.recover(bad, networks, backend=backend)
    how = {"steps": 2, "alpha": 0.1, "epsilon": 0.2, "backend": backend}
    answer = mp.perturb(bad, goal, networks, near=near, validate=False, **how)
    safe = torch.eye(5)[label_of(p)]
    assert torch.equal(answer[1], torch.full((5,), 0.2))
    others = [3, 4, 6, 8]
    assert torch.equal(answer[others], torch.eye(5)[label_of(bad)][others])
    good = [0, 2, 5, 7]
    kept = mp.perturb(p[good], goal[good], networks, near=near[good], **how)
    assert torch.equal(answer[good], kept)
    assert not torch.equal(kept, safe[good])
    for wrong, words in (
        ({"p": bad, "goal": torch.zeros(9, 31)}, "rows 1, 3, 4 otherwise"),
        ({"p": p, "goal": goal}, "goal to be finite, got NaN or Inf in row 6"),
        ({"p": p, "goal": torch.zeros(9, 31), "near": near}, "near > 0 and finite, got .* row 8"),
        (
            {"p": p, "goal": torch.zeros(9, 31), "margin": 0.9},
            "of a vector whose label leads by margin=0.9",
        ),
    ):
        first, second = wrong.pop("p"), wrong.pop("goal")
        with pytest.raises(ValueError, match=words):
            mp.perturb(first, second, networks, **(how | wrong))


def test_numbers_that_overflow_are_named() -> None:
    networks = Packed(5)
    networks.packed = networks.packed * 1e20
    p = draw("plain", 3, 5, seed=4).float()
    with pytest.raises(ValueError, match=r"stay within float32, got overflow in rows 0, 1, 2"):
        mp.recover(p, networks)
    for backend in ("cpp", "reference"):
        assert mp.recover(p, networks, validate=False, backend=backend).isnan().all()


@pytest.mark.full
@pytest.mark.parametrize("backend", ["cpp", "reference"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_part_of_a_step_keeps_the_label(dtype: torch.dtype, backend: str) -> None:
    """From a start that ties or leads at another label too, and where the part is so small that rounding decides."""
    networks = Packed(6)
    center = rows_of(6, 8).to(dtype)
    label = label_of(center)
    goal = reference.recover(center, *networks.sizes, 31)[0].roll(1, 0)
    flat = torch.full_like(center, 1 / 6)
    for start, near in itertools.product((center, flat, center.roll(1, 0)), (1e-3, 1e6)):
        q = mp.perturb(
            *(start, goal, networks),
            **{
                "steps": 1,
                "alpha": 0.01,
                "center": center,
                "near": torch.full((len(center),), near),
            },
            backend=backend,
        )
        top = q.gather(1, label.unsqueeze(1)).squeeze(1)
        assert bool((q.scatter(1, label.unsqueeze(1), -1.0).amax(1) < top).all())
        far = {"center": center, "epsilon": 0.1, "near": torch.full((len(center),), 1e6)}
        q = mp.perturb(start, goal, networks, steps=1, alpha=0.01, backend=backend, **far)
        clean = center.double() / center.double().sum(1, keepdim=True)
        slack = 10 * torch.finfo(dtype).eps if torch.finfo(dtype).eps > 1e-5 else 2e-7
        assert float((q.double() - clean).abs().sum(1).max()) <= 0.1 + slack


def test_answers_into_given_memory() -> None:
    networks = Packed(7)
    p = rows_of(7, 8).float()
    goal = torch.zeros(len(p), 31)
    how = {"steps": 3, "alpha": 0.1, "epsilon": 0.2}
    expected = mp.perturb(p, goal, networks, **how)
    out = torch.full_like(p, math.nan)
    assert mp.perturb(p, goal, networks, out=out, **how) is out
    assert torch.equal(out, expected)
    itself = p.clone()
    mp.perturb(itself, goal, networks, out=itself, **how)
    assert torch.equal(itself, expected)
    array = mp.perturb(p.numpy(), goal.numpy(), networks, **how)
    assert isinstance(array, np.ndarray) and np.array_equal(array, expected.numpy())
    with pytest.raises(ValueError, match="share no memory with network"):
        mp.perturb(p, goal, networks, out=networks.packed[: p.numel()].view(p.shape), **how)


def test_wrong_arguments_are_named() -> None:
    networks, p = Packed(7), draw("plain", 4, 7, seed=1).float()
    goal = torch.zeros(4, 31)
    for given, words in (
        (
            (p, goal, torch.nn.Linear(2, 2)),
            "expected network to be a mipoison Surrogate, got Linear",
        ),
        ((p, goal[:3], networks), r"goal of shape \(4, C\), 1 <= C <= 31, got \(3, 31\)"),
        ((p, torch.zeros(4, 32), networks), r"1 <= C <= 31, got \(4, 32\)"),
        ((p, goal.double(), networks), "goal of float32, got float64"),
    ):
        with pytest.raises((TypeError, ValueError), match=words):
            mp.perturb(*given, steps=1, alpha=0.1)
    for name, value, words in (
        ("steps", 0, "steps to be an int >= 1"),
        ("alpha", math.nan, "alpha in"),
        ("near", torch.ones(3), r"near of shape \(4,\)"),
        ("smooth", "no", "smooth to be True or False"),
    ):
        with pytest.raises((TypeError, ValueError), match=words):
            mp.perturb(p, goal, networks, **({"steps": 1, "alpha": 0.1} | {name: value}))
    x = torch.rand(20, 3)
    surrogate = mp.Surrogate.fit(draw("plain", 20, 7, seed=2).float(), x, epochs=1)
    with pytest.raises(ValueError, match="K=7 classes, as the network was fitted on, got K=5"):
        mp.recover(draw("plain", 2, 5, seed=2), surrogate)
    with pytest.raises((ValueError, RuntimeError), match="expected"):
        OPS.recover(draw("plain", 2, 100, seed=2).float(), *networks.sizes, 31)
