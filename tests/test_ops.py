"""The operators as PyTorch sees them, and the edge around them: backends, arrays, shapes, gradients."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import operands
import pytest
import torch
from distributions import directions, draw
from later import later
from operands import several
from table import codewords_of
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import mipoison as mp
from mipoison import reference
from mipoison.defenses import LaplaceNoise
from mipoison.keys import Key, resolve_key
from mipoison.reference import label_of

INF = math.inf
KEY = torch.tensor([1, 2**32 - 1, 77, 5])
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def rows(
    n: int = 6, k: int = 7, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    """Probability vectors, directions, and vectors of the same labels."""
    p = draw("plain", n, k)
    hot = torch.nn.functional.one_hot(label_of(p), k)
    return p.to(dtype), directions(n, k).to(dtype), ((p + hot) / 2).to(dtype)


def other(p: Tensor) -> Tensor:
    return (label_of(p) + 1) % p.shape[1]


# Name of the operator and its arguments, from (p, g, v) as `rows` gives them.
Arguments = Callable[[Tensor, Tensor, Tensor], tuple[Any, ...]]
CASES: dict[str, tuple[str, Arguments]] = {
    "project": ("project", lambda p, g, v: (g, None, None, INF, "l1", 0.0, False)),
    "project margin": ("project", lambda p, g, v: (g, p, None, INF, "l1", 0.1, True)),
    "project label": ("project", lambda p, g, v: (g, None, other(p), INF, "l1", 0.1, False)),
    "project l1": ("project", lambda p, g, v: (g, p, None, 0.2, "l1", 0.0, False)),
    "project l2": ("project", lambda p, g, v: (g, p, None, 0.1, "l2", 0.05, True)),
    "project linf": ("project", lambda p, g, v: (g, p, None, 0.05, "linf", 0.0, False)),
    "project other": ("project", lambda p, g, v: (g, p, other(p), 1.5, "l1", 0.0, False)),
    "project empty": ("project", lambda p, g, v: (g, p, other(p), 0.0, "l2", 0.0, False)),
    "project itself": ("project", lambda p, g, v: (p, p, None, 0.2, "l1", 0.0, False)),
    "step": ("step", lambda p, g, v: (p, g, None, None, 0.1, INF, "l1", 0.0, False)),
    "step l1": ("step", lambda p, g, v: (p, g, p, None, 0.5, 0.2, "l1", 0.05, True)),
    "step l2": ("step", lambda p, g, v: (v, g, p, None, 0.5, 0.9, "l2", 0.0, False)),
    "step linf": ("step", lambda p, g, v: (p, g, p, label_of(p), 9.0, 0.1, "linf", 0.0, False)),
    "step invalid": ("step", lambda p, g, v: (p, g / 0, p, None, 0.5, 0.2, "l1", 0.0, False)),
    "move": ("move", lambda p, g, v: (p, v, 0.1, "l2", "straight")),
    "move waterfill": ("move", lambda p, g, v: (p, v, 0.1, "l1", "waterfill")),
    "move sparse": ("move", lambda p, g, v: (p, v, 0.1, "l1", "sparse")),
    "move far": ("move", lambda p, g, v: (p, v, INF, "linf", "straight")),
    "flip": ("flip", lambda p, g, v: (p, None, 0.5, KEY, "swap")),
    "flip targets": ("flip", lambda p, g, v: (p, other(p), 0.5, KEY, "project")),
    "row_bits": ("row_bits", lambda p, g, v: (p, KEY, 3, 0.1, 6)),
    "quantize": ("quantize", lambda p, g, v: (p, codewords_of(p.shape[1], 3), None)),
    "quantize offsets": (
        "quantize",
        lambda p, g, v: (p, codewords_of(p.shape[1], 2), v.new_full((p.shape[1], 2), 0.1).float()),
    ),
    "project_vjp": (
        "project_vjp",
        lambda p, g, v: (v, g, p, None, 0.2, "l1", 0.0, False),
    ),
    **{
        case: (
            operands.CASES[case][0],
            lambda p, g, v, case=case: operands.CASES[case][1](p, v),
        )
        for case in operands.TRIED
    },
}


def operator(name: str) -> Any:
    return getattr(torch.ops.mipoison, name)


def compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    torch._dynamo.reset()
    return torch.compile(function, fullgraph=True, **{"backend": "aot_eager", **options})


# The operators.


@pytest.mark.parametrize("dtype", [torch.float32, *later(torch.bfloat16)])
@pytest.mark.parametrize("case", CASES)
def test_opcheck(case: str, dtype: torch.dtype) -> None:
    name, arguments = CASES[case]
    args = arguments(*rows(dtype=dtype))
    torch.library.opcheck(operator(name).default, args)
    torch.library.opcheck(operator(name).default, arguments(*rows(n=0, dtype=dtype)))
    if name == "project":
        wanting = (args[0].detach().clone().requires_grad_(), *args[1:])
        torch.library.opcheck(operator(name).default, wanting)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES)
def test_meta_tensors_know_their_shapes(case: str, dtype: torch.dtype) -> None:
    name, arguments = CASES[case]
    p, g, v = rows(dtype=dtype)
    # A layout that the operators do not keep.
    args = arguments(*(x.t().contiguous().t() for x in (p, g, v)))
    on_meta = [x.to("meta") if isinstance(x, Tensor) else x for x in args]
    real, fake = several(operator(name)(*args)), several(operator(name)(*on_meta))
    assert len(real) == len(fake)
    for ours, theirs in zip(real, fake, strict=True):
        assert theirs.is_meta and theirs.shape == ours.shape and theirs.dtype == ours.dtype
        assert theirs.stride() == ours.stride()


@pytest.mark.parametrize("case", CASES)
def test_an_operator_compiles_whole(case: str) -> None:
    name, arguments = CASES[case]
    args = arguments(*rows())
    whole = compiled(lambda *args: operator(name)(*args))
    for ours, theirs in zip(several(whole(*args)), several(operator(name)(*args)), strict=True):
        assert torch.equal(ours, theirs)


def test_inductor_agrees_with_eager() -> None:
    p, g, _ = rows()
    g.requires_grad_()

    def answer(z: Tensor, p: Tensor) -> Tensor:
        return mp.project(z, center=p, epsilon=0.2, validate=False)

    ours, theirs = compiled(answer, backend="inductor")(g, p), answer(g, p)
    assert torch.equal(ours, theirs)
    (gradient,) = torch.autograd.grad(ours, g, p)
    assert torch.equal(gradient, torch.autograd.grad(theirs, g, p)[0])


# The public functions under torch.compile.

SECRET = Key(3)
WORDS = {k: codewords_of(k, 3) for k in (7, 12)}
NETWORKS = {k: operands.packed(k) for k in (7, 12)}
GOAL, NEAR = operands.goal_of(50), operands.near_of(50)
PUBLIC: dict[str, Callable[..., Any]] = {
    "project": lambda p, g, v, **kw: mp.project(g, **kw),
    "project label": lambda p, g, v, **kw: mp.project(g, label=torch.ones(len(p)).int(), **kw),
    "project l1": lambda p, g, v, **kw: mp.project(g, center=p, epsilon=0.2, **kw),
    "project l2": lambda p, g, v, **kw: mp.project(g, center=p, epsilon=0.1, norm="l2", **kw),
    "project linf": lambda p, g, v, **kw: mp.project(g, center=p, epsilon=0.1, norm="linf", **kw),
    "step": lambda p, g, v, **kw: mp.step(p, g, center=p, alpha=0.1, epsilon=0.2, **kw),
    "move": lambda p, g, v, **kw: mp.move(p, v, epsilon=0.1, **kw),
    "move waterfill": lambda p, g, v, **kw: mp.move(p, v, epsilon=0.1, style="waterfill", **kw),
    "move sparse": lambda p, g, v, **kw: mp.move(p, v, epsilon=0.1, style="sparse", **kw),
    "flip": lambda p, g, v, **kw: mp.flip(p, rate=0.5, key=SECRET, **kw),
    "flip targets": lambda p, g, v, **kw: mp.flip(
        p, targets=torch.full((len(p),), 2), rate=1.0, key=SECRET, **kw
    ),
    "quantize": lambda p, g, v, **kw: mp.quantize(p, WORDS[p.shape[1]], **kw),
    "recover": lambda p, g, v, **kw: mp.recover(p, NETWORKS[p.shape[1]], **kw),
    "perturb": lambda p, g, v, **kw: mp.perturb(
        p, GOAL[: len(p)], NETWORKS[p.shape[1]], steps=2, alpha=0.05, center=v, epsilon=0.2, **kw
    ),
    "perturb near": lambda p, g, v, **kw: mp.perturb(
        p,
        GOAL[: len(p)],
        NETWORKS[p.shape[1]],
        steps=2,
        alpha=0.05,
        near=NEAR[: len(p)],
        smooth=True,
        **kw,
    ),
}


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_function_compiles_whole(name: str) -> None:
    def unread(*args: Tensor) -> Any:
        return PUBLIC[name](*args, validate=False)

    whole = compiled(unread, dynamic=True)
    for n in (6, 9):
        args = rows(n)
        for ours, theirs in zip(several(whole(*args)), several(unread(*args)), strict=True):
            assert torch.equal(ours, theirs)


KEYS = {"Key": SECRET, "int": 3, "bytes": b"a secret of many bytes", "None": None}


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("key", KEYS)
def test_keyed_functions_compile_whole_and_keep_the_key_out_of_the_graph(
    key: str, inference: bool
) -> None:
    secret = KEYS[key]
    p, ids = rows(40)[0], torch.arange(40)
    graphs: list[torch.fx.GraphModule] = []

    def keep(graph: torch.fx.GraphModule, _inputs: list[Tensor]) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    def keyed(p: Tensor, ids: Tensor) -> tuple[Tensor, ...]:
        flipped = mp.flip(p, rate=0.5, key=secret, validate=False)
        words = mp.row_bits(p, key=secret), mp.row_bits(p, key=secret, ids=ids)
        return (*flipped, *words)

    with torch.inference_mode(inference):
        whole = compiled(keyed, backend=keep)
        for ours, theirs in zip(whole(p, ids), keyed(p, ids), strict=True):
            assert torch.equal(ours, theirs)
    (graph,) = graphs
    assert not any(str(word) in graph.code for word in resolve_key(secret).words)


def test_a_compiled_function_answers_under_the_key_that_it_is_given() -> None:
    p, *_ = rows(40)
    whole = compiled(lambda p, key: mp.row_bits(p, key=key))
    with FakeTensorMode(), torch.inference_mode(), torch.device("meta"):
        made_elsewhere = Key(7)
    for key in (SECRET, Key(4), made_elsewhere, b"a secret of many bytes", 5, None, SECRET):
        assert torch.equal(whole(p, key), mp.row_bits(p, key=key))


def test_programs_that_are_saved_hold_no_key() -> None:
    p, *_ = rows(40)
    keyed = {
        "flip": lambda p: mp.flip(p, rate=0.5, key=SECRET, validate=False)[0],
        "row_bits": lambda p: mp.row_bits(p),
        "ids": lambda p: mp.row_bits(p, key=SECRET, ids=torch.arange(40)),
        "laplace": LaplaceNoise(scale=0.1, key=SECRET),
    }

    class Keyed(torch.nn.Module):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def forward(self, p: Tensor) -> Tensor:
            return keyed[self.name](p)

    for name in keyed:
        for write in (torch.export.export, torch.jit.trace):
            with pytest.raises(RuntimeError, match=r"would hold (it|the key)"):
                write(Keyed(name), (p,))


@pytest.mark.parametrize(
    ("epsilon", "norm"), [(None, "l1"), (0.2, "l1"), (0.1, "l2"), (0.05, "linf")]
)
def test_forward_and_backward_compile_whole(epsilon: float | None, norm: str) -> None:
    p, g, v = rows()

    def loss(z: Tensor) -> Tensor:
        q = mp.project(2 * z, center=p, epsilon=epsilon, norm=norm, validate=False)
        return (q * v).sum()

    ours, theirs = ((p / 2 + 0.1 * g).requires_grad_() for _ in range(2))
    compiled(loss)(ours).backward()
    loss(theirs).backward()
    assert ours.grad is not None and float(ours.grad.abs().max()) > 0
    assert torch.equal(ours.grad, theirs.grad)


# Backends.


def test_the_compiled_backend_is_there() -> None:
    found = mp.backends()
    assert list(found) == ["reference", "cpp", "triton"]
    assert found["reference"] is True
    assert found["cpp"] in ("baseline", "avx2", "avx512", "neon")


@pytest.mark.parametrize("name", PUBLIC)
@pytest.mark.parametrize("dtype", DTYPES)
def test_backends_agree(name: str, dtype: torch.dtype) -> None:
    args = rows(50, 12, dtype=dtype)
    default, compiled_, plain = (
        several(PUBLIC[name](*args, backend=b)) for b in (None, "cpp", "reference")
    )
    # The compiled networks compute in float32.
    exact = dtype == torch.float64 and name.split()[0] not in ("recover", "perturb")
    tolerance = 1e-9 if exact else max(5e-7, torch.finfo(dtype).eps)
    for ours, forced, theirs in zip(default, compiled_, plain, strict=True):
        assert torch.equal(ours, forced) and theirs.dtype == ours.dtype
        assert float((ours.double() - theirs.double()).abs().max()) <= tolerance


class Recorded(TorchDispatchMode):
    """Notes which of our operators run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func.namespace == "mipoison":
            self.names.append(func.name())
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", PUBLIC)
def test_cpu_tensors_go_to_the_operator_but_for_the_reference(name: str) -> None:
    for backend in (None, "cpp", "reference"):
        with Recorded() as recorded:
            PUBLIC[name](*rows(), backend=backend)
        operation = name.split()[0]
        expected = [f"mipoison::{operation}"]
        if backend == "reference":
            # The derivative is the operator's, whichever backend answers.
            expected = ["mipoison::_project_by"] if operation == "project" else []
        assert recorded.names == expected


@pytest.mark.parametrize(
    "name",
    [
        *("project", "step", "move", "flip", "row_bits", "quantize"),
        *("recover", "pull", "perturb", *operands.INTERNAL),
        *("project_out", "step_out", "quantize_out", "perturb_out"),
    ],
)
def test_the_dispatcher_calls_the_compiled_kernels_without_python(name: str) -> None:
    table = torch._C._dispatch_dump(f"mipoison::{name}").splitlines()
    (cpu_kernel,) = (line for line in table if line.startswith("CPU"))
    assert "operators.h" in cpu_kernel


@pytest.mark.parametrize("name", PUBLIC)
def test_a_backend_that_cannot_serve_is_refused(name: str) -> None:
    with pytest.raises(RuntimeError, match="backend 'triton' serves CUDA tensors, got one on cpu"):
        PUBLIC[name](*rows(), backend="triton")
    with pytest.raises(ValueError, match="expected backend to be None or one of"):
        PUBLIC[name](*rows(), backend="cuda")


def test_the_compiled_backend_refuses_other_devices() -> None:
    with pytest.raises(RuntimeError, match="serves CPU tensors, got one on meta"):
        mp.project(torch.zeros(2, 3, device="meta"), backend="cpp", validate=False)


# Arrays, dtypes and layouts.


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("name", PUBLIC)
def test_numpy_in_numpy_out(name: str, dtype: type[np.generic]) -> None:
    tensors = rows(dtype=getattr(torch, dtype.__name__))
    arrays = [x.numpy() for x in tensors]
    before = [x.copy() for x in arrays]
    for order in ("C", "F"):
        answers = PUBLIC[name](*(np.array(x, order=order) for x in arrays))
        answers = answers if isinstance(answers, tuple) else (answers,)
        for ours, theirs in zip(answers, several(PUBLIC[name](*tensors)), strict=True):
            assert isinstance(ours, np.ndarray)
            floats = np.float32 if name == "recover" else dtype
            assert ours.dtype == (np.int64 if theirs.dtype == torch.int64 else floats)
            assert np.array_equal(ours, theirs.numpy())
    assert all(np.array_equal(x, y) for x, y in zip(arrays, before, strict=True))


def test_row_bits_of_an_array() -> None:
    p, *_ = rows()
    bits = mp.row_bits(p.numpy(), key=1)
    assert isinstance(bits, np.ndarray) and bits.dtype == np.int64
    assert np.array_equal(bits, mp.row_bits(p, key=1).numpy())


def test_a_read_only_array_is_served_without_a_warning() -> None:
    p = rows()[0].numpy().copy()
    p.setflags(write=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert isinstance(mp.project(p), np.ndarray)


@pytest.mark.parametrize("backend", ["cpp", "reference"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", PUBLIC)
def test_dtypes_and_no_rows(name: str, dtype: torch.dtype, backend: str) -> None:
    columns, floats = (32, torch.float32) if name == "recover" else (7, dtype)
    for n in (0, 1, 4):
        result, *labels = several(PUBLIC[name](*rows(n, dtype=dtype), backend=backend))
        assert result.shape == (n, columns) and result.dtype == floats
        assert all(x.shape == (n,) and x.dtype == torch.int64 for x in labels)
    bits = mp.row_bits(rows(0, dtype=dtype)[0], key=1, words=5, backend=backend)
    assert bits.shape == (0, 5) and bits.dtype == torch.int64


def test_no_rows_and_an_empty_list_of_labels() -> None:
    p, *_ = rows(0)
    assert (
        mp.project(p, label=[]).shape == mp.flip(p, targets=[], rate=0.5, key=1)[0].shape == (0, 7)
    )


@pytest.mark.parametrize("backend", ["cpp", "reference"])
@pytest.mark.parametrize("name", PUBLIC)
def test_any_layout(name: str, backend: str) -> None:
    args = rows(9)
    expected = several(PUBLIC[name](*args, backend=backend))
    layouts = (
        [x.t().contiguous().t() for x in args],
        [x.repeat_interleave(2, 1)[:, ::2] for x in args],
        [x.repeat_interleave(3, 0)[::3] for x in args],
    )
    for layout in layouts:
        assert not any(x.is_contiguous() for x in layout)
        for ours, theirs in zip(
            several(PUBLIC[name](*layout, backend=backend)), expected, strict=True
        ):
            assert ours.is_contiguous() and torch.equal(ours, theirs)


# Gradients.

BALLS = [(None, "l1"), (0.3, "l1"), (0.2, "l2"), (0.1, "linf")]


def assert_closed_form(
    epsilon: float | None, norm: str, dtype: torch.dtype, backend: str | None
) -> None:
    p, g, v = rows(20, dtype=dtype)
    z = (p + 0.4 * g).requires_grad_()
    for label, margin in ((None, 0.1), (label_of(p), 0.0)):
        q = mp.project(
            z,
            center=p,
            label=label,
            epsilon=epsilon,
            norm=norm,
            margin=margin,
            shrink=True,
            backend=backend,
        )
        assert q.requires_grad
        (gradient,) = torch.autograd.grad(q, z, v)
        radius = INF if epsilon is None else epsilon
        expected = reference.project_vjp(v, z.detach(), p, label, radius, norm, margin, True)
        assert gradient.dtype == dtype and float(expected.abs().max()) > 0.01
        assert torch.allclose(gradient, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, *later(torch.float64)])
@pytest.mark.parametrize(("epsilon", "norm"), BALLS)
def test_the_gradient_of_project_is_the_closed_form(
    epsilon: float | None, norm: str, dtype: torch.dtype
) -> None:
    assert_closed_form(epsilon, norm, dtype, None)


@pytest.mark.parametrize("backend", ["cpp", "reference"])
@pytest.mark.parametrize(("epsilon", "norm"), BALLS)
def test_the_gradient_does_not_depend_on_the_backend(
    epsilon: float | None, norm: str, backend: str
) -> None:
    assert_closed_form(epsilon, norm, torch.float64, backend)


def test_center_label_and_status_have_no_gradient() -> None:
    p, g, _ = rows()
    z, center = g.requires_grad_(), p.clone().requires_grad_()
    q, status = operator("project")(z, center, None, 0.2, "l1", 0.0, False)
    assert q.requires_grad and not status.requires_grad
    (q * p).sum().backward()
    assert z.grad is not None and center.grad is None


def test_refused_rows_have_no_gradient() -> None:
    p, g, v = rows()
    z = (p + 0.2 * g).requires_grad_()
    p[2, 0] = math.nan
    q = mp.project(z, center=p, epsilon=0.2, validate=False)
    (gradient,) = torch.autograd.grad(q, z, v)
    assert torch.equal(gradient[2], torch.zeros(7)) and torch.isfinite(gradient).all()
    assert float(gradient.abs().max()) > 0


@pytest.mark.parametrize("name", ["step", "move", "flip", "quantize", "recover", "perturb"])
def test_operations_without_derivative_record_none(name: str) -> None:
    wanting = [x.requires_grad_() for x in rows()]
    result, *_ = several(PUBLIC[name](*wanting))
    if result.requires_grad:
        # Worse than an error is a gradient that silently stops here.
        with pytest.raises((RuntimeError, NotImplementedError)):
            result.sum().backward()


@pytest.mark.parametrize("validate", [True, False])
@pytest.mark.parametrize("backend", ["cpp", "reference"])
@pytest.mark.parametrize("style", ["swap", "project"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_flip_changes_the_label(
    dtype: torch.dtype, style: str, backend: str, validate: bool
) -> None:
    p = torch.tensor([[0.4, 0.4, 0.2], [0.5, 0.3, 0.2], [0.45, 0.1, 0.45]], dtype=dtype)
    targets = [1, 1, 2]
    how = {"rate": 1.0, "style": style, "key": 1, "backend": backend, "validate": validate}
    q, labels = mp.flip(p, targets=targets, **how)
    assert labels.tolist() == targets == q.argmax(1).tolist()
    ahead = q.double().topk(2, 1).values
    assert bool((ahead[:, 0] - ahead[:, 1] >= 1e-3).all())
    # What leads is left as it is, and no margin asks for no more than a strict label.
    if style == "swap":
        assert torch.allclose(q[1], p[1][[1, 0, 2]], rtol=0, atol=1e-3)
    strict, _ = mp.flip(p, targets=targets, margin=0.0, **how)
    assert strict.argmax(1).tolist() == targets


def test_words_end_at_the_last_block() -> None:
    p = draw("plain", 3, 4)
    assert mp.row_bits(p, key=1, draw=2**32 - 1).shape == (3, 4)
    with pytest.raises(ValueError, match=r"end within 2\*\*32 blocks of four words, got draw="):
        mp.row_bits(p, key=1, draw=2**32 - 1, words=5)
