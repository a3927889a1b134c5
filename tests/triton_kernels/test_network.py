"""Small networks in the Triton kernels under the interpreter, against the float64 reference."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import Any

import pytest
import table
import torch
from distributions import draw
from later import fewer, later, unless
from mipoison.kernels import launch
from torch import Tensor

from mipoison import reference
from mipoison.ops.library import REFERENCE, TRITON
from mipoison.reference.network import Layers, whole_lanes

OUTPUTS = 5
DTYPES = tuple(table.TOLERANCE)
# Of a step: the direction, which is float32, is a unit vector, and the steps are a tenth.
TOLERANCE = {
    torch.float64: 1e-6,
    torch.float32: 1e-5,
    torch.float16: 2.0**-10,
    torch.bfloat16: 2.0**-7,
}


def packed(k: int, width: int, members: int, outputs: int = OUTPUTS, size: float = 1.0) -> Tensor:
    """Random networks; what fills up their lanes is zero, as `Layers` has it."""
    generator = torch.Generator().manual_seed(k + width + members)
    f, d = whole_lanes(2 * k), whole_lanes(outputs)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    mean, scale = 0.1 * normal(f), normal(f).abs() + 0.5
    state = [
        *(size * normal(members, f, width) / f**0.5, 0.1 * normal(members, 1, width)),
        *(1.4 * normal(members, width, width) / width**0.5, 0.1 * normal(members, 1, width)),
        *(normal(members, width, d) / width**0.5, 0.1 * normal(members, 1, d)),
    ]
    mean[2 * k :], state[0][:, 2 * k :], state[4][..., outputs:], state[5][..., outputs:] = [0] * 4
    return Layers.of(mean, scale, state).packed()


@dataclass(frozen=True)
class Perturbation:
    """The arguments of `perturb`, by name."""

    p: Tensor
    goal: Tensor
    network: Tensor
    members: int
    width: int
    center: Tensor | None = None
    near: Tensor | None = None
    steps: int = 1
    alpha: float = 0.1
    epsilon: float | None = None
    norm: str = "l1"
    margin: float = 0.0
    shrink: bool = True
    smooth: bool = True

    @property
    def arguments(self) -> tuple[Any, ...]:
        return tuple(vars(self).values())

    def only(self, rows: Tensor) -> Perturbation:
        """The same call on some of its rows."""
        center, near = (None if x is None else x[rows] for x in (self.center, self.near))
        return replace(self, p=self.p[rows], goal=self.goal[rows], center=center, near=near)


def perturbation(
    dtype: torch.dtype, k: int, width: int, members: int, norm: str, near: bool, centered: bool
) -> Perturbation:
    """A step of rows of all distributions toward another's recovery; with a center, from beside it."""
    center, network = table.rows_of(k, 1).to(dtype), packed(k, width, members)
    goal = reference.recover(center, network, members, width, OUTPUTS)[0].roll(1, 0) + 0.3
    region = (None, "l1") if norm == "none" else (0.1, norm)
    start = center
    if centered:
        aside = center.roll(1, 0)
        start, _ = reference.project(aside, center, None, *region, 0.0, True)
    distance = torch.linspace(0.5, 4, len(center)) if near else None
    around = (1, 0.1, *region, 0.0, True, not near)
    return Perturbation(
        start, goal, network, members, width, center if centered else None, distance, *around
    )


def run(operation: str, *arguments: Any) -> tuple[Tensor, ...]:
    """The kernels' results, in memory that held NaN."""
    with table.poisoned():
        results: tuple[Tensor, ...] = TRITON[operation](*arguments)
    return results


def name_of(value: object) -> str:
    return str(value).removeprefix("torch.")


NETWORKS = unless(
    (
        *((torch.float32, k, 32, 1) for k in (2, 10, 33, 100)),
        (torch.float32, 10, 64, 3),
        *((dtype, 2, 32, 3) for dtype in DTYPES),
        (torch.float32, 33, 96, 1),
    ),
    itertools.product(DTYPES, (2, 10, 33, 100, 1000), (32, 64, 96, 256), (1, 3)),
)


@pytest.mark.parametrize(("dtype", "k", "width", "members"), NETWORKS, ids=name_of)
def test_recovery_and_gradient_agree_with_the_reference(
    dtype: torch.dtype, k: int, width: int, members: int
) -> None:
    p, network = table.rows_of(k, 3).to(dtype), packed(k, width, members)
    shape = (network, members, width)
    ours, status = run("recover", p, *shape, OUTPUTS)
    theirs, _ = reference.recover(p, *shape, OUTPUTS)
    assert ours.dtype == torch.float32 and int(status) == 0
    assert float((ours - theirs).abs().max()) <= 1e-5 * float(theirs.abs().max())
    goal = theirs.roll(1, 0) + 1
    for smooth in (False, True):
        ours, distance, status = run("pull", p, goal, *shape, smooth)
        theirs, exact, _ = reference.pull(p, goal, *shape, smooth)
        assert int(status) == 0
        assert bool(((ours - theirs).abs().amax(1) <= 1e-4 * theirs.abs().amax(1)).all())
        assert torch.allclose(distance, exact, rtol=1e-5)


STEPS = unless(
    (
        *((dtype, 10, 32, 3, "none", True, True) for dtype in DTYPES),
        *((torch.float32, k, 32, 1, "none", False, False) for k in (2, 33, 100)),
        (torch.float32, 2, 64, 1, "l1", True, False),
        (torch.float32, 10, 32, 1, "l1", False, True),
        *((torch.float32, 10, 32, 1, norm, True, True) for norm in ("l2", "linf")),
        (torch.float64, 2, 32, 1, "l2", True, False),
    ),
    (
        *itertools.product(
            DTYPES, (2, 10, 33, 100), (32, 64), (1, 3), ("none",), (False, True), (False, True)
        ),
        # The balls are slow to interpret, the l1 ball most.
        *itertools.product(
            DTYPES, (2, 10, 33), (32, 64), (3,), ("l2", "linf"), (False, True), (True,)
        ),
        *itertools.product(DTYPES, (2, 10), (32, 64), (1,), ("l1",), (False, True), (True,)),
        (torch.float32, 1000, 64, 1, "none", True, True),
    ),
)


def assert_near(ours: Tensor, theirs: Tensor) -> None:
    """Most rows are: where two entries share the lead, the last bit can decide whether a shortened step is taken."""
    off = (ours.double() - theirs.double()).abs().amax(1) > TOLERANCE[ours.dtype]
    assert int(off.sum()) <= len(off) // 7, off


@pytest.mark.parametrize(
    ("dtype", "k", "width", "members", "norm", "near", "centered"), STEPS, ids=name_of
)
def test_a_step_agrees_with_the_reference(
    dtype: torch.dtype, k: int, width: int, members: int, norm: str, near: bool, centered: bool
) -> None:
    call = perturbation(dtype, k, width, members, norm, near, centered)
    if norm != "none":
        call = call.only(torch.arange(0, 7, fewer(3, 1)))
    ours, status = run("perturb", *call.arguments)
    theirs, _ = reference.perturb(*call.arguments)
    assert ours.dtype == dtype and int(status) == 0
    assert_near(ours, theirs)
    assert float((theirs.double() - call.p.double()).abs().max()) > 0.01
    label = reference.label_of(call.p if call.center is None else call.center)
    # (A shortened step that would lose the label leaves the row as it was, with its tie if it had one.)
    leads = table.lead_of(ours.double(), label) > 0
    assert bool((leads | (table.lead_of(call.p.double(), label) <= 0)).all())


def test_a_shortened_step_keeps_the_label() -> None:
    """Flat rows whose label leads by one unit in the last place: a share of the step would lose it to rounding."""
    center = draw("flat", 2000, 10).float()
    start, _ = reference.project(center.roll(1, 0), center, None, None, "l1", 0.0, True)
    goal, near = torch.ones(2000, OUTPUTS), torch.full((2000,), 4.0)
    call = Perturbation(start, goal, packed(10, 32, 1), 1, 32, center, near)
    label, answer = reference.label_of(center), reference.perturb(*call.arguments)[0]
    left = (table.lead_of(answer.double(), label) < 1e-8).nonzero()[:64, 0]
    assert len(left) == 64
    call = call.only(left)
    ours, status = run("perturb", *call.arguments)
    assert int(status) == 0
    assert bool((table.lead_of(ours.double(), label[left]) > 0).all())
    assert_near(ours, answer[left])


@pytest.mark.parametrize(
    ("norm", "near"), [("none", False), ("none", True), *later(("l2", False), ("l1", True))]
)
def test_every_step_starts_where_the_last_one_ended(norm: str, near: bool) -> None:
    call = perturbation(torch.float32, 10, 32, 3, norm, near, True)
    ended, _ = run("perturb", *replace(call, steps=2).arguments)
    ours, _ = run("perturb", *replace(call, steps=3).arguments)
    theirs, _ = reference.perturb(*replace(call, p=ended).arguments)
    assert_near(ours, theirs)
    assert float((ours - ended).abs().max()) > 0.01


def test_batch_invariance() -> None:
    call = perturbation(torch.float32, 11, 64, 3, "none", True, False)
    call = call.only(torch.arange(20) % 7)
    call = replace(call, p=table.rows_of(11, 3)[:20].float(), steps=2)

    def answers(call: Perturbation) -> dict[str, Tensor]:
        p, goal, *networks = call.arguments[:5]
        return {
            "recover": run("recover", p, *networks, OUTPUTS)[0],
            "pull": run("pull", p, goal, *networks, True)[0],
            "perturb": run("perturb", *call.arguments)[0],
        }

    whole, some = answers(call), torch.tensor([18, 3, 7])
    for rows in (some, some[:1]):
        few = call.only(rows)
        for operation, answer in answers(few).items():
            assert torch.equal(answer, whole[operation][rows]), operation


def test_programs_go_on_to_the_next_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    p, network = table.rows_of(3, 8)[:50].float(), packed(3, 32, 1)
    many, goal = run("recover", p, network, 1, 32, OUTPUTS)[0], torch.ones(50, OUTPUTS)
    call = Perturbation(p, goal, network, 1, 32, steps=2)
    rows, _ = run("perturb", *call.arguments)
    monkeypatch.setattr(launch, "_PROGRAMS", 2)
    p[40, 0] = math.nan
    found, status = run("recover", p, network, 1, 32, OUTPUTS)
    good = torch.arange(50) != 40
    assert torch.equal(found[good], many[good]) and int(status) == 1
    again, status = run("perturb", *call.arguments)
    assert torch.equal(again[good], rows[good]) and int(status) == 1


def test_more_outputs_than_units_and_chunks() -> None:
    p, network = table.rows_of(5, 1).float(), packed(5, 32, 2, 100)
    for outputs in (100, 33, 1):
        ours, _ = run("recover", p, network, 2, 32, outputs)
        theirs, _ = reference.recover(p, network, 2, 32, outputs)
        assert torch.allclose(ours, theirs, atol=1e-5)
        ours, _, _ = run("pull", p, theirs + 1, network, 2, 32, True)
        theirs, _, _ = reference.pull(p, theirs + 1, network, 2, 32, True)
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def spoilt(call: Perturbation) -> Perturbation:
    """Every row but the first broken in another way."""
    assert call.center is not None and call.near is not None
    p, goal, center, near = call.p.clone(), call.goal.clone(), call.center.clone(), call.near
    near = near.clone()
    p[1, 1], p[2, 0], center[3, 2], goal[4, 1] = math.nan, -0.1, math.inf, math.inf
    near[5], near[6] = 0.0, math.nan
    return replace(call, p=p, goal=goal, center=center, near=near)


@pytest.mark.parametrize("dtype", unless((torch.float32, torch.bfloat16), DTYPES), ids=name_of)
@pytest.mark.parametrize("steps", [1, 2])
def test_invalid_rows_get_the_safe_answer(dtype: torch.dtype, steps: int) -> None:
    call = spoilt(replace(perturbation(dtype, 10, 32, 1, "none", True, True), steps=steps))
    ours, status = run("perturb", *call.arguments)
    theirs, valid = reference.perturb(*call.arguments)
    assert int(status) == 6 and valid.tolist() == [True] + 6 * [False]
    assert torch.equal(ours[1:], theirs[1:])
    p, goal, *networks = call.arguments[:5]
    found, status = run("recover", p, *networks, OUTPUTS)
    assert int(status) == 2 and torch.equal(found[1:3], torch.zeros(2, OUTPUTS))
    gradient, distance, status = run("pull", p, goal, *networks, True)
    refused = torch.tensor([1, 2, 4])
    assert int(status) == 3 and int(gradient[refused].count_nonzero()) == 0
    assert distance[refused].tolist() == [0.0] * 3 and bool((distance[[0, 3, 5, 6]] > 0).all())


@pytest.mark.parametrize("size", [math.inf, 1e30])
def test_an_overflow_is_refused(size: float) -> None:
    """In a hidden layer, where a NaN must not pass for an idle unit, and in the gradient alone."""
    p, network = table.rows_of(10, 1).float(), packed(10, 32, 1, size=size)
    goal = torch.zeros(len(p), OUTPUTS)
    found, status = run("recover", p, network, 1, 32, OUTPUTS)
    assert int(status) == (len(p) if size == math.inf else 0)
    assert bool(found.isnan().all() if size == math.inf else found.isfinite().all())
    gradient, distance, status = run("pull", p, goal, network, 1, 32, False)
    assert int(status) == len(p)
    assert int(gradient.count_nonzero()) + int(distance.count_nonzero()) == 0
    rows, status = run("perturb", *Perturbation(p, goal, network, 1, 32).arguments)
    assert int(status) == len(p)
    assert torch.equal(rows, reference.rounding.safe_answer(p, reference.label_of(p), p.dtype))


def test_an_empty_set_is_refused() -> None:
    call = replace(perturbation(torch.float32, 3, 32, 1, "l2", False, False), margin=1.0)
    call = replace(call, shrink=False)
    rows, status = run("perturb", *call.arguments)
    expected, valid = reference.perturb(*call.arguments)
    assert int(status) == int((~valid).sum()) > 0
    assert torch.equal(rows[~valid], expected[~valid])


def test_strided_rows_and_an_output_that_is_the_input() -> None:
    call = perturbation(torch.float32, 10, 32, 1, "none", True, True)
    expected, _ = run("perturb", *call.arguments)
    wide = torch.full((7, 32), math.nan)
    wide[:, 5:15] = call.p
    rows = wide[:, 5:15]
    goal = call.goal.t().contiguous().t()
    again, _ = run("perturb", *replace(call, p=rows, goal=goal).arguments, rows)
    assert again.data_ptr() == rows.data_ptr() and torch.equal(rows, expected)
    assert wide[:, :5].isnan().all() and wide[:, 15:].isnan().all()
    found, _ = run("recover", rows, call.network, 1, 32, OUTPUTS)
    assert torch.equal(found, run("recover", rows.clone(), call.network, 1, 32, OUTPUTS)[0])


def test_an_output_that_is_the_center() -> None:
    call = perturbation(torch.float32, 10, 32, 1, "none", False, False)
    call = replace(call, p=call.p.clone(), steps=3)
    call.p[2, 0] = math.nan
    expected, _ = run("perturb", *call.arguments)
    run("perturb", *call.arguments, call.p)
    assert torch.equal(call.p, expected)


def test_empty_batches() -> None:
    network, p, goal = packed(5, 32, 1), torch.zeros(0, 5), torch.zeros(0, OUTPUTS)
    found, status = run("recover", p, network, 1, 32, OUTPUTS)
    assert found.shape == (0, OUTPUTS) and int(status) == 0
    gradient, distance, status = run("pull", p, goal, network, 1, 32, True)
    assert gradient.shape == (0, 5) and distance.shape == (0,) and int(status) == 0
    rows, status = run("perturb", *Perturbation(p, goal, network, 1, 32).arguments)
    assert rows.shape == (0, 5) and int(status) == 0


def test_other_numbers_are_refused() -> None:
    network, p = packed(5, 32, 1), table.rows_of(5, 1).float()
    with pytest.raises(ValueError, match="in whole lanes of 32 with 33 outputs or more"):
        TRITON["recover"](p, network, 1, 32, 33)
    with pytest.raises(ValueError, match="expected 2 networks"):
        TRITON["recover"](p, network, 2, 32, 5)
    call = Perturbation(p, torch.zeros(7, OUTPUTS), network, 1, 32, steps=0)
    with pytest.raises(ValueError, match="at least one step"):
        TRITON["perturb"](*call.arguments)


def test_the_operators_count_like_the_reference() -> None:
    call = spoilt(perturbation(torch.float32, 10, 32, 1, "none", True, True))
    assert int(run("perturb", *call.arguments)[1]) == int(REFERENCE["perturb"](*call.arguments)[1])
