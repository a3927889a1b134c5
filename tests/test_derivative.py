"""The derivative of the projection in every mode of torch: exact, or refused, and never zero in silence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import operands
import pytest
import torch
from distributions import directions, draw
from later import fewer, later, unless
from table import codewords_of
from torch import Tensor
from torch.autograd import forward_ad

import mipoison as mp
from mipoison.defenses import Rounding

OPS = torch.ops.mipoison
Projection = Callable[[Tensor], Tensor]

K = 6
P = draw("plain", 4, K)
WORDS = codewords_of(K, 3)
NETWORK, GOAL = operands.packed(K), operands.goal_of(4)
Z = P + 0.4 * directions(4, K)
LABEL = torch.tensor([1, 0, 5, 2])
SETTINGS: dict[str, dict[str, Any]] = {
    "own label": {},
    "label": {"label": LABEL, "margin": 0.1},
    "l1": {"epsilon": 0.2, "norm": "l1", "margin": 0.01, "shrink": True},
    "l2": {"epsilon": 0.1, "norm": "l2", "margin": 0.01, "shrink": True},
    "linf": {"epsilon": 0.05, "norm": "linf", "margin": 0.01, "shrink": True},
}
FLAT = tuple(name for name in SETTINGS if name != "l2")


def raw(settings: dict[str, Any]) -> Projection:
    """The operator itself."""
    epsilon, norm = settings.get("epsilon"), settings.get("norm", "l1")
    center = P if "epsilon" in settings else None
    after = epsilon, norm, settings.get("margin", 0.0), settings.get("shrink", False)
    return lambda z: OPS.project(z, center, settings.get("label"), *after)[0]


def public(settings: dict[str, Any], backend: str | None) -> Projection:
    """The function of the package."""
    center = P if "epsilon" in settings else None
    return lambda z: mp.project(z, center=center, **settings, backend=backend)


FORMS: dict[str, Callable[[dict[str, Any]], Projection]] = {
    "operator": raw,
    "default": lambda settings: public(settings, None),
    "cpp": lambda settings: public(settings, "cpp"),
    "reference": lambda settings: public(settings, "reference"),
}


@pytest.fixture(params=unless(("operator", "reference"), FORMS))
def form(request: pytest.FixtureRequest) -> Callable[[dict[str, Any]], Projection]:
    return FORMS[request.param]


def square(project: Projection) -> Projection:
    """A scalar of what is projected."""
    return lambda z: project(z).square().sum()


def measured(project: Projection, z: Tensor, v: Tensor) -> Tensor:
    """The derivative along v by differences."""
    return (project(z + 1e-6 * v) - project(z - 1e-6 * v)) / 2e-6


@pytest.mark.parametrize("name", SETTINGS)
def test_forward_mode_is_the_derivative(form: Any, name: str) -> None:
    project, v = form(SETTINGS[name]), directions(4, K).flip(0)
    exact = measured(project, Z, v)
    assert float(exact.abs().max()) > 0.01
    q, along = torch.func.jvp(project, (Z,), (v,))
    with forward_ad.dual_level():
        dual = forward_ad.unpack_dual(project(forward_ad.make_dual(Z, v)))
        with torch.no_grad():
            unrecorded = forward_ad.unpack_dual(project(forward_ad.make_dual(Z, v)))
    assert torch.equal(q, project(Z)) and torch.equal(dual.primal, q)
    for tangent in (along, dual.tangent, unrecorded.tangent):
        assert torch.allclose(tangent, exact, atol=1e-7)


@pytest.mark.parametrize("name", SETTINGS)
def test_all_modes_agree(form: Any, name: str) -> None:
    project = form(SETTINGS[name])
    expected = torch.autograd.functional.jacobian(project, Z)
    assert float(expected.abs().max()) > 0.01
    for jacobian in (torch.func.jacrev, torch.func.jacfwd):
        assert torch.allclose(jacobian(project)(Z), expected, atol=1e-12)
    grad = torch.func.grad(square(project))(Z)
    assert torch.allclose(grad, torch.autograd.functional.jacobian(square(project), Z))


@pytest.mark.parametrize("name", unless(("own label", "l1"), SETTINGS))
def test_gradcheck(form: Any, name: str) -> None:
    project, z = form(SETTINGS[name]), Z.clone().requires_grad_()
    every = {"check_forward_ad": True, "check_batched_grad": True, "check_undefined_grad": True}
    assert torch.autograd.gradcheck(project, z, **every, check_batched_forward_grad=True)


@pytest.mark.full
@pytest.mark.parametrize("name", unless(("l1",), FLAT))
def test_second_derivatives_of_piecewise_linear_projections(form: Any, name: str) -> None:
    project = form(SETTINGS[name])
    jacobian = torch.func.jacrev(project)(Z).flatten(0, 1).flatten(1)
    expected = (2 * jacobian.T @ jacobian).view(4, K, 4, K)
    loss = square(project)
    func = torch.func
    for hessian in (
        func.hessian(loss),
        func.jacrev(func.jacfwd(loss)),
        func.jacfwd(func.jacfwd(loss)),
        func.jacrev(func.jacrev(loss)),
        lambda z: torch.autograd.functional.hessian(loss, z),
    ):
        assert torch.allclose(hessian(Z), expected, atol=1e-12)

    # Of a curve that is projected: the first derivative is itself a function of z.
    def bent(z: Tensor) -> Tensor:
        return square(project)(z + z**2 / 3)

    expected = torch.autograd.functional.hessian(bent, Z)
    for hessian in (
        func.hessian(bent),
        func.jacfwd(func.jacfwd(bent)),
        func.jacrev(func.jacfwd(bent)),
    ):
        assert torch.allclose(hessian(Z), expected, atol=1e-12)
    assert torch.autograd.gradgradcheck(
        project, Z.clone().requires_grad_(), check_fwd_over_rev=True
    )


def test_second_derivatives_in_an_l2_ball_are_refused(form: Any) -> None:
    project = form(SETTINGS["l2"])
    loss = square(project)
    func = torch.func
    for hessian in (
        func.hessian(loss),
        func.jacfwd(func.jacfwd(loss)),
        func.jacrev(func.jacrev(loss)),
        lambda z: torch.autograd.functional.hessian(loss, z),
        lambda z: torch.autograd.functional.jvp(project, z, z),
    ):
        with pytest.raises(NotImplementedError, match="expected first derivatives of a projection"):
            hessian(Z)


@pytest.mark.parametrize("backend", [None, "cpp", "reference"])
@pytest.mark.parametrize("name", SETTINGS)
def test_vmap(backend: str | None, name: str) -> None:
    settings = {**SETTINGS[name], "backend": backend, "validate": False}
    label = settings.pop("label", None)

    def project(z: Tensor, p: Tensor, t: Tensor | None) -> Tensor:
        center = p if "epsilon" in settings else None
        return mp.project(z, center=center, label=t, **settings)

    z = torch.stack([Z, Z.flip(0), 2 * Z])
    p = torch.stack([P, P.flip(0), P])
    t = None if label is None else torch.stack([label, label.flip(0), label])
    place = None if t is None else 0
    expected = torch.cat(
        [project(*(x if x is None else x[i] for x in (z, p, t))) for i in range(3)]
    )
    every = torch.vmap(project, in_dims=(0, 0, place))(z, p, t)
    assert torch.equal(every.flatten(0, 1), expected)
    # One center and label for all, and another dimension.
    same = torch.vmap(lambda z: project(z, P, label), in_dims=1)(z.movedim(0, 1))
    assert torch.equal(same[0], expected[:4])
    pulled = torch.vmap(torch.func.grad(lambda *x: project(*x).square().sum()), (0, 0, place))
    alone = torch.func.grad(lambda z: project(z, p[1], t if t is None else t[1]).square().sum())
    assert torch.allclose(pulled(z, p, t)[1], alone(z[1]), atol=1e-12)


def test_vmap_of_the_other_operations() -> None:
    p = torch.stack([P, P.flip(0)])
    calls: dict[str, Callable[[Tensor], Any]] = {
        "step": lambda p: mp.step(p, p.flip(1), center=p, alpha=0.3, epsilon=0.1, validate=False),
        "move": lambda p: mp.move(p, p, epsilon=0.1, validate=False),
        "flip": lambda p: mp.flip(p, rate=0.5, key=1, validate=False)[0],
        "row_bits": lambda p: mp.row_bits(p, key=1),
        "quantize": lambda p: mp.quantize(p, WORDS, validate=False)[0],
        "recover": lambda p: mp.recover(p, NETWORK, validate=False),
        "perturb": lambda p: mp.perturb(
            p, GOAL, NETWORK, steps=2, alpha=0.05, epsilon=0.1, validate=False
        ),
    }
    for name, call in calls.items():
        assert torch.equal(torch.vmap(call)(p), torch.stack([call(x) for x in p])), name


@pytest.mark.parametrize("case", operands.TRIED)
def test_vmap_of_operators(case: str) -> None:
    def answer(p: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        return operands.call(case, p, v, operands.compiled)

    p = torch.stack([P, P.flip(0)]).float()
    v = (p + torch.nn.functional.one_hot(p.argmax(-1), K)) / 2
    expected = [answer(*pair) for pair in zip(p, v, strict=True)]
    for i, result in enumerate(torch.vmap(answer)(p, v)):
        assert torch.equal(result, torch.stack([x[i] for x in expected]))


def test_vmap_of_a_defense_cannot_read_which_rows_are_valid_and_says_so() -> None:
    p = torch.softmax(Z, 1)
    defense = Rounding(1)
    assert torch.equal(torch.vmap(lambda p: defense(p, validate=False))(p[None])[0], defense(p))
    with pytest.raises(RuntimeError, match=r"expected validate=False under torch\.vmap"):
        torch.vmap(defense)(p[None])


def test_vmap_with_validation_is_refused() -> None:
    for backend in (None, "cpp", "reference"):
        with pytest.raises(RuntimeError, match=r"expected validate=False under torch\.vmap"):
            torch.vmap(lambda z, b=backend: mp.project(z, backend=b))(Z[None])


@pytest.mark.parametrize("backend", [None, "cpp", "reference"])
def test_out_has_no_derivative_in_any_mode(backend: str | None) -> None:
    def into(z: Tensor) -> Tensor:
        return mp.project(z, out=torch.empty_like(Z), backend=backend, validate=False)

    refused = pytest.raises(RuntimeError, match="expected no out under a transform of")
    for transform in (torch.func.jacfwd, torch.func.jacrev, torch.vmap):
        with refused:
            transform(into)(Z[None] if transform is torch.vmap else Z)
    with forward_ad.dual_level(), refused:
        into(forward_ad.make_dual(Z, Z))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_other_dtypes_in_both_modes(form: Any, dtype: torch.dtype) -> None:
    v = directions(4, K)
    exact = torch.func.jvp(form({}), (Z,), (v,))[1]
    z, v = Z.to(dtype), v.to(dtype)
    _, pull = torch.func.vjp(form({}), z)
    for along in (torch.func.jvp(form({}), (z,), (v,))[1], pull(v)[0]):
        assert along.dtype == dtype
        assert torch.allclose(along.double(), exact, atol=16 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("default", [torch.float64, *later(torch.float32), torch.bfloat16])
def test_the_derivative_does_not_depend_on_the_default_dtype(default: torch.dtype) -> None:
    p = torch.tensor([[0.4, 0.3, 0.2, 0.1]], dtype=torch.float64)
    generator = torch.Generator().manual_seed(4)
    torch.set_default_dtype(default)
    try:
        for _ in range(fewer(20, 40)):
            z = p + 0.3 * torch.randn(1, 4, dtype=torch.float64, generator=generator)
            jacobian = torch.autograd.functional.jacobian(
                lambda t: mp.project(t, center=p, epsilon=0.3), z
            ).reshape(4, 4)
            assert torch.allclose(jacobian, jacobian.T, atol=1e-14, rtol=0)
            # A projection that is locally linear is idempotent.
            assert torch.allclose(jacobian @ jacobian, jacobian, atol=1e-14, rtol=0)
    finally:
        torch.set_default_dtype(torch.float32)


def test_the_derivative_passes_opcheck() -> None:
    v, z = directions(4, K).requires_grad_(), Z.clone().requires_grad_()
    for epsilon, norm in ((None, "l1"), (0.2, "l1"), (0.1, "l2"), (0.05, "linf")):
        torch.library.opcheck(
            OPS.project_vjp.default, (v.detach(), z.detach(), P, None, epsilon, norm, 0.0, True)
        )
    torch.library.opcheck(OPS.project_vjp.default, (v, z, P, None, 0.2, "l1", 0.0, True))
    torch.library.opcheck(OPS._project_by.default, (z, P, None, 0.2, "l1", 0.0, True, "reference"))


def test_other_arguments_have_no_derivative() -> None:
    p = P.clone().requires_grad_()
    calls: dict[str, Callable[..., Any]] = {
        "step": lambda p, **by: mp.step(p, p, center=p, alpha=0.3, epsilon=0.1, **by),
        "move": lambda p, **by: mp.move(p, p, epsilon=0.1, **by),
        "flip": lambda p, **by: mp.flip(p, rate=0.5, key=1, **by)[0],
        "quantize": lambda p, **by: mp.quantize(p, WORDS, **by)[0],
        "recover": lambda p, **by: mp.recover(p, NETWORK, **by),
        "perturb": lambda p, **by: mp.perturb(
            p, GOAL, NETWORK, steps=2, alpha=0.05, center=p, epsilon=0.1, **by
        ),
    }
    for name, call in calls.items():
        for backend in (None, "cpp", "reference"):
            assert not call(p, backend=backend).requires_grad, name
            with forward_ad.dual_level():
                q = call(forward_ad.make_dual(P, P), backend=backend)
                assert forward_ad.unpack_dual(q).tangent is None, name
