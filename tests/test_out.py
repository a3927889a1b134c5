"""Forms that write into a given tensor: the same rows as without, wherever it lies."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import operands
import pytest
import torch
from distributions import directions, draw
from later import fewer, later, unless
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

import mipoison as mp
from mipoison import cpu
from mipoison.ops.library import REFERENCE
from mipoison.reference import label_of

INF = math.inf
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
BACKENDS = (None, "cpp", "reference")
# ε and norm.
BALLS: tuple[tuple[float | None, str], ...] = (
    (None, "l1"),
    (0.2, "l1"),
    (0.1, "l2"),
    (0.05, "linf"),
)
# K on both sides of what one row per lane, one row in registers and longer rows take.
SIZES = (2, 7, 16, 33, 200, 1000)


def rows(n: int, k: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Probability vectors and directions."""
    return draw("plain", n, k).to(dtype), directions(n, k).to(dtype)


Call = Callable[..., Any]
NETWORKS = {k: operands.packed(k) for k in (*SIZES, 6)}
GOAL = operands.goal_of(19)
# project(z), step(q) and perturb(p), from (q, g, p).
CALLS: dict[str, Call] = {
    "project": lambda q, g, p, **options: mp.project(q, center=p, **options),
    "step": lambda q, g, p, **options: mp.step(q, g, center=p, alpha=0.3, **options),
    "perturb": lambda q, g, p, **options: mp.perturb(
        q, GOAL[: len(q)], NETWORKS[q.shape[1]], steps=2, alpha=0.3, center=p, **options
    ),
}


def poisoned(like: Tensor) -> Tensor:
    """New memory full of NaN."""
    return torch.full_like(like, math.nan, memory_format=torch.contiguous_format)


# The same rows.


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", unless((torch.float32, torch.bfloat16), DTYPES))
@pytest.mark.parametrize(("epsilon", "norm"), BALLS)
@pytest.mark.parametrize("name", CALLS)
def test_the_rows_are_those_of_the_form_without_out(
    name: str, epsilon: float | None, norm: str, dtype: torch.dtype, backend: str | None
) -> None:
    for k in SIZES if backend != "reference" else SIZES[: fewer(1, 3)]:
        p, g = rows(19, k, dtype)
        q = ((p + p.roll(1, 0)) / 2).to(dtype)
        options = {"epsilon": epsilon, "norm": norm, "backend": backend}
        expected = CALLS[name](q, g, p, shrink=True, margin=0.01, **options)
        out = poisoned(p)
        before = [x.clone() for x in (q, g, p)]
        assert CALLS[name](q, g, p, shrink=True, margin=0.01, out=out, **options) is out
        assert torch.equal(out, expected)
        assert all(torch.equal(x, y) for x, y in zip((q, g, p), before, strict=True))


@pytest.mark.parametrize("over", ["q", *later("g", "p")])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", unless((torch.float32, torch.bfloat16), DTYPES))
@pytest.mark.parametrize(("epsilon", "norm"), BALLS)
def test_in_place_is_bitwise_equal(
    epsilon: float | None, norm: str, dtype: torch.dtype, backend: str | None, over: str
) -> None:
    for name in CALLS if over != "g" else ("step",):
        for k in SIZES if backend != "reference" else SIZES[: fewer(1, 3)]:
            p, g = rows(19, k, dtype)
            given = {"q": ((p + p.roll(1, 0)) / 2).to(dtype), "g": g, "p": p}
            options = {"epsilon": epsilon, "norm": norm, "backend": backend}
            options |= {"shrink": True, "margin": 0.01}
            expected = CALLS[name](*given.values(), **options)
            assert CALLS[name](*given.values(), out=given[over], **options) is given[over]
            assert torch.equal(given[over], expected), (name, k)


@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
@pytest.mark.parametrize("k", SIZES)
def test_step_with_out_over_its_center(k: int, norm: str) -> None:
    p, g = rows(37, k)
    radius = 0.5 / k if norm == "linf" else 0.1
    expected = mp.step(p, g, center=p, alpha=0.5, epsilon=radius, norm=norm)
    assert not torch.equal(expected, p)
    mp.step(p, g, center=p, alpha=0.5, epsilon=radius, norm=norm, out=p)
    assert torch.equal(p, expected)


@pytest.mark.parametrize("k", [1000, 3200, 3205])
def test_long_rows_are_equal_in_place_out_of_place_and_in_float64(k: int) -> None:
    q, g = rows(9, k)
    q[2] *= 5
    q[4, 1] = math.nan
    q[6, 0] = 1e20
    options = {"alpha": 0.5, "validate": False}
    with cpu.using(cpu.instruction_sets()[-1]):
        narrow = mp.step(q, g, **options)
    apart, over = poisoned(q), q.clone()
    mp.step(q, g, out=apart, **options)
    mp.step(over, g, out=over, **options)
    assert torch.equal(apart, over)
    torch.testing.assert_close(apart, narrow, atol=5e-7, rtol=0)
    along = g.clone()
    mp.step(q, along, out=along, **options)
    assert torch.equal(apart, along)


@pytest.mark.parametrize("isa", cpu.instruction_sets())
@pytest.mark.parametrize("k", [1024, 3200])
def test_streamed_outputs_equal_small_ones(k: int, isa: str) -> None:
    """More than 2 MiB of rows that are whole blocks are streamed; half of them are not."""
    half = 300 if k == 1024 else 100
    q, g = rows(2 * half, k)
    label = torch.arange(2 * half) % k
    q[2] *= 5
    q[half + 4, 1] = math.nan
    q[half + 6, 0] = 1e20
    assert 2 * half * k > 1 << 19 > half * k
    with cpu.using(isa):
        for t in (None, label):
            whole = mp.step(q, g, label=t, alpha=0.5, validate=False, out=poisoned(q))
            labels = (t, t) if t is None else t.split(half)
            parts = zip(q.split(half), g.split(half), labels, strict=True)
            halves = [mp.step(a, b, label=c, alpha=0.5, validate=False) for a, b, c in parts]
            assert torch.equal(whole, torch.cat(halves))


@pytest.mark.parametrize("threads", [1, 2])
def test_in_place_over_several_threads(threads: int) -> None:
    before = torch.get_num_threads()
    p, g = rows(20_000, 10)
    expected = mp.step(p, g, center=p, alpha=0.5, epsilon=0.1)
    torch.set_num_threads(threads)
    try:
        mp.step(p, g, center=p, alpha=0.5, epsilon=0.1, out=p)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(p, expected)


# Where it lies.


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", CALLS)
def test_out_of_any_layout(name: str, backend: str | None) -> None:
    p, g = rows(9, 6)
    expected = CALLS[name](p, g, p, epsilon=0.2, backend=backend)
    layouts = {
        "columns first": poisoned(p.t()).t(),
        "a part of rows": poisoned(torch.empty(9, 8))[:, 1:7],
        "every other column": poisoned(torch.empty(9, 12))[:, ::2],
        "every other row": poisoned(torch.empty(18, 6))[::2],
        "no rows": None,
    }
    for layout, out in layouts.items():
        if out is None:
            empty = p[:0]
            assert (
                CALLS[name](empty, empty, empty, epsilon=0.2, out=empty, backend=backend) is empty
            )
            continue
        assert not out.is_contiguous()
        assert CALLS[name](p, g, p, epsilon=0.2, out=out, backend=backend) is out
        assert torch.equal(out, expected), layout
        around = out._base if out._base is not None else out
        assert around.isfinite().sum() == expected.numel(), f"{layout}: written beyond out"


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", CALLS)
def test_in_place_in_any_layout(name: str, backend: str | None) -> None:
    p, g = rows(9, 6)
    expected = CALLS[name](p, g, p, epsilon=0.2, backend=backend)
    for q in (p.t().contiguous().t(), p.repeat_interleave(2, 1)[:, ::2]):
        CALLS[name](q, g, q, epsilon=0.2, out=q, backend=backend)
        assert torch.equal(q, expected)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", CALLS)
def test_out_beside_the_rows_in_one_allocation(name: str, backend: str | None) -> None:
    p, g = rows(9, 6)
    expected = CALLS[name](p, g, p, epsilon=0.2, backend=backend)
    below, beside = torch.cat([p, p]), torch.cat([p, p], 1)
    CALLS[name](below[:9], g, below[:9], epsilon=0.2, out=below[9:], backend=backend)
    CALLS[name](beside[:, :6], g, beside[:, :6], epsilon=0.2, out=beside[:, 6:], backend=backend)
    assert torch.equal(below, torch.cat([p, expected]))
    assert torch.equal(beside, torch.cat([p, expected], 1))


@pytest.mark.parametrize("backend", BACKENDS)
def test_out_over_a_part_of_an_input_is_refused(backend: str | None) -> None:
    p, g = rows(9, 6)
    q, c = p.clone(), p.clone()
    for name, memory in (("q", q), ("g", g), ("center", c)):
        flat = torch.cat([memory.flatten(), torch.zeros(6)])
        given = {"q": q, "g": g, "center": c} | {name: flat[:54].view(9, 6)}
        before = flat.clone()
        for shift in (1, 6):
            out = flat[shift : shift + 54].view(9, 6)
            with pytest.raises(ValueError, match=f"expected out to be {name} itself"):
                mp.step(**given, alpha=0.1, epsilon=0.2, out=out, backend=backend)
        assert torch.equal(flat, before)
    flat = torch.cat([p.flatten(), torch.zeros(6)])
    with pytest.raises(ValueError, match="expected out to be z itself"):
        mp.project(flat[:54].view(9, 6), out=flat[6:].view(9, 6), backend=backend)
    labels = torch.zeros(54, dtype=torch.int64)
    # Rows cannot be written into labels.
    with pytest.raises(ValueError, match=r"expected out to be label itself .*; pass a new tensor$"):
        mp.project(p, label=labels[:9], out=labels.view(torch.float32)[:54].view(9, 6))
    # Of one row in all, every input is the memory itself, over and over.
    with pytest.raises(ValueError, match="expected out to be q itself"):
        mp.step(p[:1].expand(9, 6), g, alpha=0.1, out=p)


class Marked(Tensor):
    """A subclass that adds nothing."""


@pytest.mark.parametrize("marked", ["input", "out"])
def test_subclasses_share_memory_too(marked: str) -> None:
    p, _ = rows(9, 6)
    flat = torch.cat([p.flatten(), torch.zeros(6)])
    z, out = flat[:54].view(9, 6), flat[6:].view(9, 6)
    if marked == "input":
        z = z.as_subclass(Marked)
    else:
        out = out.as_subclass(Marked)
    with pytest.raises(ValueError, match="expected out to be z itself"):
        mp.project(z, out=out)


def test_out_that_negates_its_memory_is_refused() -> None:
    p, _ = rows(9, 6)
    negated = torch.imag(torch.zeros(9, 6, dtype=torch.complex64).conj())
    with pytest.raises(ValueError, match="whose memory holds its entries, got a view that negates"):
        mp.project(p, out=negated)


@pytest.mark.parametrize(
    "out",
    [
        torch.zeros(1, 6).expand(9, 6),
        torch.zeros(100).as_strided((9, 6), (3, 1)),
        torch.zeros(100).as_strided((9, 6), (4, 2)),
        torch.zeros(100).as_strided((9, 6), (1, 1)),
        np.lib.stride_tricks.sliding_window_view(np.zeros(14, np.float32), 6, writeable=True),
    ],
)
def test_out_with_internal_overlap_is_refused(out: Any) -> None:
    p, _ = rows(9, 6)
    given = p.numpy() if isinstance(out, np.ndarray) else p
    with pytest.raises(ValueError, match=r"expected out whose entries have memory of their own"):
        mp.project(given, out=out)


def test_out_of_interleaved_axes_is_written() -> None:
    p, _ = rows(2, 2)
    out = torch.zeros(10).as_strided((2, 2), (3, 2))
    assert torch.equal(mp.project(p, out=out), mp.project(p))


# What it is.


@pytest.mark.parametrize("name", CALLS)
def test_out_unlike_the_rows_is_refused(name: str) -> None:
    p, g = rows(9, 6)

    def call(out: Any, given: Any = p) -> None:
        CALLS[name](given, g if given is p else g.numpy(), given, epsilon=0.2, out=out)

    for wrong, error, message in (
        (torch.zeros(9, 7), ValueError, r"expected out of shape torch.Size\(\[9, 6\]\)"),
        (torch.zeros(1, 6), ValueError, "expected out of shape"),
        (torch.zeros(54), ValueError, r"expected out of shape \[N, K\]"),
        (torch.zeros(9, 6, dtype=torch.float64), ValueError, "expected out of dtype torch.float32"),
        (
            torch.zeros(9, 6, dtype=torch.int64),
            TypeError,
            "expected out to be one of float64, float32",
        ),
        (torch.zeros(9, 6, device="meta"), ValueError, "expected out of device cpu"),
        (np.zeros((9, 6), np.float32), TypeError, "expected out to be a Tensor as the rows are"),
        ([[0.0] * 6] * 9, TypeError, "expected out to be a Tensor as the rows are, got list"),
    ):
        with pytest.raises(error, match=message):
            call(wrong)
    fixed = np.zeros((9, 6), np.float32)
    fixed.setflags(write=False)
    for wrong, error, message in (
        (torch.zeros(9, 6), TypeError, "expected out to be a ndarray as the rows are, got Tensor"),
        (np.zeros((9, 7), np.float32), ValueError, "expected out of shape"),
        (np.zeros((9, 6)), TypeError, "expected out of dtype float32, got float64"),
        (fixed, ValueError, "expected out to be writable"),
        (np.zeros((9, 6), np.float32)[::-1], ValueError, "expected out with strides >= 0"),
    ):
        with pytest.raises(error, match=message):
            call(wrong, p.numpy())


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("name", CALLS)
def test_arrays(name: str, dtype: type[np.generic]) -> None:
    p, g = (x.numpy() for x in rows(9, 6, getattr(torch, dtype.__name__)))
    expected = CALLS[name](p, g, p, epsilon=0.2)
    for order in ("C", "F"):
        out = np.full_like(p, np.nan, order=order)
        assert CALLS[name](p, g, p, epsilon=0.2, out=out) is out
        assert np.array_equal(out, expected)
        own = np.array(p, order=order)
        assert CALLS[name](own, g, own, epsilon=0.2, out=own) is own
        assert np.array_equal(own, expected)
    flat = np.concatenate([p.ravel(), np.zeros(6, dtype)])
    with pytest.raises(ValueError, match=r"expected out to be [pqz] itself"):
        CALLS[name](flat[:54].reshape(9, 6), g, p, epsilon=0.2, out=flat[6:].reshape(9, 6))


# Rows that are refused.


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", CALLS)
def test_refused_rows_are_named_and_out_holds_the_safe_answers(
    name: str, backend: str | None
) -> None:
    p, g = rows(9, 6)
    q = p.clone()
    q[3, 2] = math.nan
    safe = CALLS[name](q, g, p, epsilon=0.2, validate=False, backend=backend)
    for out in (poisoned(p), poisoned(p.t()).t()):
        with pytest.raises(ValueError, match=r"NaN or Inf in row 3$|row 3: it holds NaN or Inf"):
            CALLS[name](q, g, p, epsilon=0.2, out=out, backend=backend)
        assert torch.equal(out, safe) and bool(out.isfinite().all())
    with pytest.raises(ValueError, match="got 1 that it refused; out shares memory"):
        CALLS[name](q, g, p, epsilon=0.2, out=q, backend=backend)
    assert torch.equal(q, safe)


# Gradients.


def test_out_refuses_tensors_that_require_grad() -> None:
    p, g = rows(9, 6)
    z, out = p.clone().requires_grad_(), poisoned(p)
    goal, operator = GOAL[:9], torch.ops.mipoison
    goal_wanting, network = goal.clone().requires_grad_(), NETWORKS[6]

    def perturbed(p: Tensor, goal: Tensor, center: Tensor | None = None) -> tuple[Any, ...]:
        given = p, goal, network.packed, network.members, network.width, center, None
        return (*given, 1, 0.1, None, "l1", 0.0, False, False)

    refused: dict[str, Callable[[], Any]] = {
        "torch": lambda: torch.add(z, z, out=out),
        "project": lambda: mp.project(z, out=out),
        "project cpp": lambda: mp.project(z, out=out, backend="cpp"),
        "project reference": lambda: mp.project(z, out=out, backend="reference"),
        "project out": lambda: mp.project(p, out=z),
        "step out": lambda: mp.step(p, g, alpha=0.1, out=z),
        "operator z": lambda: operator.project_out(z, p, None, 0.2, "l1", 0.0, False, out),
        "operator p": lambda: operator.project_out(p, z, None, 0.2, "l1", 0.0, False, out),
        "operator g": lambda: operator.step_out(p, z, p, None, 0.1, 0.2, "l1", 0.0, False, out),
        "operator project out": lambda: operator.project_out(p, p, None, 0.2, "l1", 0.0, False, z),
        "operator step out": lambda: operator.step_out(
            p, g, p, None, 0.1, 0.2, "l1", 0.0, False, z
        ),
        "operator center": lambda: operator.step_out(
            p, g, z, None, 0.1, 0.2, "l1", 0.0, False, out
        ),
        "perturb out": lambda: CALLS["perturb"](p, g, p, out=z),
        "operator perturb p": lambda: operator.perturb_out(*perturbed(z, goal), out),
        "operator perturb goal": lambda: operator.perturb_out(*perturbed(p, goal_wanting), out),
        "operator perturb center": lambda: operator.perturb_out(*perturbed(p, goal, z), out),
        "reference perturb center": lambda: REFERENCE["perturb_out"](*perturbed(p, goal, z), out),
        "operator perturb out": lambda: operator.perturb_out(*perturbed(p, goal), z),
    }
    for name, call in refused.items():
        # One sentence, whichever backend refuses.
        sentence = (
            "functions with out" if name == "torch" else "^expected no argument that requires"
        )
        with pytest.raises(RuntimeError, match=sentence):
            call()
        assert bool(out.isnan().all()) and torch.equal(z, p), name
    with torch.no_grad():
        assert torch.equal(mp.project(z, out=out), mp.project(p))
    with torch.inference_mode():
        inside = torch.empty_like(p)
        assert torch.equal(mp.project(z, out=inside), mp.project(p))
    # The fused step has no gradient in either form.
    assert torch.equal(mp.step(z, g, alpha=0.1, out=out), mp.step(p, g, alpha=0.1))


def test_every_backend_refuses_gradients_in_the_same_words() -> None:
    p, _ = rows(9, 6)
    z, out = p.clone().requires_grad_(), poisoned(p)
    said = []
    for backend in BACKENDS:
        with pytest.raises(RuntimeError) as refusal:
            mp.project(z, out=out, backend=backend)
        said.append(str(refusal.value))
    assert len(set(said)) == 1


def test_out_refuses_non_leaf_tensors_and_takes_detached_ones() -> None:
    p, g = rows(9, 6)
    leaf, out = p.clone().requires_grad_(), poisoned(p)
    arguments = (g, p, None, 0.1, 0.2, "l1", 0.0, False)
    for z in (leaf * 1, leaf[:], leaf.t().contiguous().t()):
        with pytest.raises(RuntimeError, match="requires grad"):
            torch.ops.mipoison.step_out(z, *arguments, out)
    status = torch.ops.mipoison.step_out(leaf.detach(), *arguments, out)
    assert int(status) == 0 and not status.requires_grad and not out.requires_grad
    assert torch.equal(out, torch.ops.mipoison.step(p, *arguments)[0])


@pytest.mark.parametrize("contiguous", [True, False])
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_a_call_counts_as_one_new_version(mode: Callable[[], Any], contiguous: bool) -> None:
    p, g = rows(9, 6)
    out = poisoned(p if contiguous else p.t())
    out = out if contiguous else out.t()
    around = out if contiguous else out.t()
    for name in CALLS:
        before, expected = around._version, CALLS[name](p, g, p, epsilon=0.2)
        with mode():
            CALLS[name](p, g, p, epsilon=0.2, out=out)
        assert around._version == before + 1 and torch.equal(out, expected)


def test_an_inference_tensor_is_refused_outside_as_torch_refuses_it() -> None:
    p, g = rows(9, 6)
    with torch.inference_mode():
        out = poisoned(p)
    with pytest.raises(RuntimeError, match="expected out that torch lets be overwritten"):
        mp.step(p, g, alpha=0.1, out=out)
    with torch.inference_mode():
        assert bool(out.isnan().all())
        assert torch.equal(mp.step(p, g, alpha=0.1, out=out), mp.step(p, g, alpha=0.1))


@pytest.mark.parametrize("backend", BACKENDS)
def test_autograd_detects_overwritten_tensors(backend: str | None) -> None:
    p, _ = rows(9, 6)
    w, out = torch.ones_like(p).requires_grad_(), p.clone()
    product = (w * out).sum()
    mp.project(p, out=out, backend=backend)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.backward()


# The operators.

Arguments = Callable[[Tensor, Tensor], tuple[Any, ...]]
CASES: dict[str, Arguments] = {
    "project": lambda p, g: (g, None, None, INF, "l1", 0.0, False),
    "project l1": lambda p, g: (g, p, None, 0.2, "l1", 0.0, False),
    "project l2": lambda p, g: (g, p, label_of(p), 0.1, "l2", 0.05, True),
    "step": lambda p, g: (p, g, None, None, 0.1, INF, "l1", 0.0, False),
    "step linf": lambda p, g: (p, g, p, None, 0.5, 0.1, "linf", 0.0, False),
    "step invalid": lambda p, g: (p, g / 0, p, None, 0.5, 0.2, "l1", 0.0, False),
    **{
        case: lambda p, g, case=case: operands.CASES[case][1](p, p)
        for case in ("perturb", "perturb near")
    },
}


def operators(case: str) -> tuple[Any, Any]:
    name = case.split()[0]
    return getattr(torch.ops.mipoison, name), getattr(torch.ops.mipoison, f"{name}_out")


@pytest.mark.parametrize("dtype", [torch.float32, *later(torch.bfloat16)])
@pytest.mark.parametrize("case", CASES)
def test_opcheck(case: str, dtype: torch.dtype) -> None:
    _, writing = operators(case)
    for n in (6, 0):
        p, g = rows(n, 7, dtype)
        args = CASES[case](p, g)
        torch.library.opcheck(writing.default, (*args, torch.zeros_like(p)))
        torch.library.opcheck(writing.default, (*args, torch.zeros_like(p.t()).t()))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES)
def test_the_status_is_that_of_the_form_without_out(case: str, dtype: torch.dtype) -> None:
    functional, writing = operators(case)
    p, g = rows(6, 7, dtype)
    args, out = CASES[case](p, g), poisoned(p)
    expected, count = functional(*args)
    status = writing(*args, out)
    assert torch.equal(out, expected)
    assert status.dtype == torch.int64 and status.shape == () and torch.equal(status, count)
    assert int(count) == (6 if case == "step invalid" else 0)
    on_meta = [x.to("meta") if isinstance(x, Tensor) else x for x in (*args, out)]
    meta = writing(*on_meta)
    assert meta.is_meta and meta.shape == () and meta.dtype == torch.int64


@pytest.mark.parametrize("case", CASES)
def test_an_operator_compiles_whole(case: str) -> None:
    functional, writing = operators(case)
    p, g = rows(6, 7)
    args, out = CASES[case](p, g), poisoned(p)
    torch._dynamo.reset()
    whole = torch.compile(lambda *args: writing(*args), fullgraph=True, backend="aot_eager")
    status = whole(*args, out)
    expected, count = functional(*args)
    assert torch.equal(out, expected) and torch.equal(status, count)


@pytest.mark.parametrize("name", CALLS)
def test_the_public_form_compiles_whole(name: str) -> None:
    def answer(q: Tensor, g: Tensor, p: Tensor, out: Tensor) -> Tensor:
        return CALLS[name](q, g, p, epsilon=0.2, out=out, validate=False) * 2

    torch._dynamo.reset()
    whole = torch.compile(answer, fullgraph=True, backend="aot_eager", dynamic=True)
    for n in (6, 9):
        p, g = rows(n, 7)
        expected = CALLS[name](p, g, p, epsilon=0.2)
        out = poisoned(p)
        assert torch.equal(whole(p, g, p, out), 2 * expected) and torch.equal(out, expected)
        assert torch.equal(whole(p, g, p, p), 2 * expected) and torch.equal(p, expected)


def test_inductor_with_out() -> None:
    def answer(q: Tensor, g: Tensor, out: Tensor) -> Tensor:
        return mp.step(2 * q - q, g, center=q, alpha=0.1, epsilon=0.2, out=out, validate=False) + 1

    torch._dynamo.reset()
    p, g = rows(6, 7)
    out = poisoned(p)
    expected = mp.step(2 * p - p, g, center=p, alpha=0.1, epsilon=0.2)
    assert torch.equal(torch.compile(answer, fullgraph=True)(p, g, out), expected + 1)
    assert torch.equal(out, expected)


def test_a_gradient_is_refused_under_compile_too() -> None:
    p, _ = rows(6, 7)
    torch._dynamo.reset()
    whole = torch.compile(
        lambda z, out: mp.project(z, out=out, validate=False), backend="aot_eager"
    )
    with pytest.raises(RuntimeError, match=r"requires? grad"):
        whole(p.clone().requires_grad_(), poisoned(p))


def test_the_public_form_can_be_traced() -> None:
    p, g = rows(6, 7)
    expected, out = mp.step(p, g, alpha=0.1), poisoned(p)
    traced = make_fx(
        lambda q, g, out: mp.step(q, g, alpha=0.1, out=out, validate=False), tracing_mode="fake"
    )(p, g, out)
    assert bool(out.isnan().all())
    assert torch.equal(traced(p, g, out), expected) and torch.equal(out, expected)
