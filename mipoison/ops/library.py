"""Registration of the operators in PyTorch: schemas, implementations by device, shapes, derivative.

CPU tensors go to the compiled extension, which registers itself, CUDA tensors to the Triton kernels,
every other device to the reference. One low-level `Library` with one schema per operation costs less
per call than `torch.library.custom_op`.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor

from mipoison import cpu, gpu, reference
from mipoison.ops.derivative import Project, Pull, all_at_once, differentiated, one_by_one, recorded

_SCHEMAS: Final = (
    "project(Tensor z, Tensor? p, Tensor? t, float? epsilon, str norm, float margin, bool shrink)"
    " -> (Tensor, Tensor)",
    "step(Tensor q, Tensor g, Tensor? p, Tensor? t, float alpha, float? epsilon, str norm,"
    " float margin, bool shrink) -> (Tensor, Tensor)",
    "move(Tensor p, Tensor target, float? epsilon, str norm, str style) -> (Tensor, Tensor)",
    "flip(Tensor p, Tensor? targets, float rate, Tensor key, str style) -> (Tensor, Tensor, Tensor)",
    "row_bits(Tensor p, Tensor key, int draw, float grid, int words) -> Tensor",
    "quantize(Tensor p, Tensor codewords, Tensor? offsets) -> (Tensor, Tensor, Tensor)",
    # Small networks on [p, log p], packed by `reference.network.Layers`.
    "recover(Tensor p, Tensor network, int members, int width, int outputs) -> (Tensor, Tensor)",
    "pull(Tensor q, Tensor goal, Tensor network, int members, int width, bool smooth)"
    " -> (Tensor, Tensor, Tensor)",
    "distances(Tensor answers, Tensor goal, Tensor network, int members, int width) -> Tensor",
    "perturb(Tensor p, Tensor goal, Tensor network, int members, int width, Tensor? center, Tensor? near,"
    " int steps, float alpha, float? epsilon, str norm, float margin, bool shrink, bool smooth)"
    " -> (Tensor, Tensor)",
    # For defenses.
    "clean(Tensor p) -> (Tensor, Tensor)",
    "label_of(Tensor x) -> Tensor",
    "lead(Tensor q, Tensor p) -> Tensor",
    "distance(Tensor q, Tensor p, str norm) -> Tensor",
    "lose_label(Tensor q, Tensor given, Tensor label, int first, int last) -> Tensor",
    "soften(Tensor p, float temperature, float floor) -> Tensor",
    "solitary(Tensor p, Tensor vectors, Tensor start, Tensor count, float same, float noise, Tensor spread) -> Tensor",
    "pick_each(Tensor p, Tensor vectors, Tensor start, Tensor count, float same, float noise, Tensor words)"
    " -> (Tensor, Tensor)",
    "nearest(Tensor p, Tensor vectors, Tensor start, Tensor count, float same, float noise, Tensor word,"
    " int slots, int subsets) -> Tensor",
    "choose_move(Tensor p, Tensor vectors, Tensor start, Tensor count, float same, float noise,"
    " Tensor predicted, Tensor recovered, Tensor words, int slots, float epsilon, str norm, float weight, bool root)"
    " -> (Tensor, Tensor)",
    # The forms that write into a given tensor return all but the rows.
    "project_out(Tensor z, Tensor? p, Tensor? t, float? epsilon, str norm, float margin, bool shrink,"
    " Tensor(a!) out) -> Tensor",
    "step_out(Tensor q, Tensor g, Tensor? p, Tensor? t, float alpha, float? epsilon, str norm,"
    " float margin, bool shrink, Tensor(a!) out) -> Tensor",
    "quantize_out(Tensor p, Tensor codewords, Tensor? offsets, Tensor(a!) out) -> (Tensor, Tensor)",
    "perturb_out(Tensor p, Tensor goal, Tensor network, int members, int width, Tensor? center, Tensor? near,"
    " int steps, float alpha, float? epsilon, str norm, float margin, bool shrink, bool smooth,"
    " Tensor(a!) out) -> Tensor",
    # For csrc/stable.h only, which finds out with it whether one of four tensors requires grad.
    "_joined(Tensor a, Tensor b, Tensor c, Tensor d) -> Tensor",
    # `project` by a backend that is chosen by name, with the same derivative.
    "_project_by(Tensor z, Tensor? p, Tensor? t, float? epsilon, str norm, float margin, bool shrink,"
    " str backend) -> (Tensor, Tensor)",
    # The derivative is an operator, so that traced graphs contain it as one node.
    "project_vjp(Tensor v, Tensor z, Tensor? p, Tensor? t, float? epsilon, str norm, float margin,"
    " bool shrink) -> Tensor",
)

_GRADIENT_REFUSAL: Final = (
    "expected no argument that requires grad together with out, got one: what is written into a given tensor has no "
    "derivative; leave out away, or use torch.no_grad() or .detach()"
)
_MARK: Final = "_registered_by_mipoison"


def counting(operation: Callable[..., tuple[Tensor, ...]]) -> Callable[..., Any]:
    """Turns a reference operation's mask of valid rows into the operators' count of invalid ones.

    Inputs are detached: the derivative of the steps of a root search is not the registered one.
    """

    def counted(*args: Any) -> tuple[Tensor, ...]:
        *results, valid = operation(*(x.detach() if isinstance(x, Tensor) else x for x in args))
        return (*results, (~valid).sum())

    return in_standard_floats(counted)


def in_standard_floats(operation: Callable[..., Any]) -> Callable[..., Any]:
    """Computes in the floating-point environment of the kernels; compiled graphs are left as they are."""

    def call(*args: Any) -> Any:
        if torch.compiler.is_compiling():
            return operation(*args)
        with cpu.StandardFloats():
            return operation(*args)

    return call


# Places of the arguments that may require grad, as the last one may.
_DIFFERENTIABLE: Final = {
    "project_out": (0, 1),
    "step_out": (0, 1, 2),
    "quantize_out": (0, 1, 2),
    "perturb_out": (0, 1, 5),
}


def without_gradient(name: str, operation: Callable[..., Any]) -> Callable[..., Any]:
    """Refuses rows with a derivative, as torch does with out=: it would be lost silently."""
    places = _DIFFERENTIABLE[name]

    def refusing(*args: Any) -> Any:
        for x in (*(args[i] for i in places), args[-1]):
            if x is not None and differentiated(x):
                raise RuntimeError(_GRADIENT_REFUSAL)
        return operation(*args)

    return refusing


def all_but_rows(results: tuple[Tensor, ...]) -> Any:
    """What an operation returns beside the rows."""
    _, *others = results
    return others[0] if len(others) == 1 else tuple(others)


def writing(operation: Callable[..., tuple[Tensor, ...]]) -> Callable[..., Any]:
    """The form of an operation that writes into the last argument, through a new tensor."""

    def written(*args: Any) -> Any:
        *inputs, out = args
        results = operation(*inputs)
        out.copy_(results[0])
        return all_but_rows(results)

    return written


def writing_directly(
    operation: Callable[..., tuple[Tensor, ...]],
) -> Callable[..., Any]:
    """The same for an operation that can write into a contiguous tensor directly."""
    by_a_new_tensor = writing(operation)

    def written(*args: Any) -> Any:
        out = args[-1]
        if not out.is_contiguous():
            return by_a_new_tensor(*args)
        results = operation(*args)
        # A kernel writes by address: tell autograd that what it may have saved has changed.
        torch.autograd.graph.increment_version(out)
        return all_but_rows(results)

    return written


REFERENCE: Final[dict[str, Callable[..., Any]]] = {
    "project": counting(reference.project),
    "step": counting(reference.step),
    "move": counting(reference.move),
    "flip": counting(reference.flip),
    "row_bits": in_standard_floats(reference.row_bits),
    "project_out": without_gradient("project_out", writing(counting(reference.project))),
    "step_out": without_gradient("step_out", writing(counting(reference.step))),
    "quantize": counting(reference.quantize),
    "quantize_out": without_gradient("quantize_out", writing(counting(reference.quantize))),
    "recover": counting(reference.recover),
    "pull": counting(reference.pull),
    "distances": in_standard_floats(reference.distances),
    "perturb": counting(reference.perturb),
    "perturb_out": without_gradient("perturb_out", writing(counting(reference.perturb))),
    "clean": in_standard_floats(reference.clean),
    "label_of": reference.label_of,
    "lead": in_standard_floats(reference.lead),
    "distance": in_standard_floats(reference.distance),
    "lose_label": in_standard_floats(reference.lose_label),
    "soften": in_standard_floats(reference.soften),
    "solitary": in_standard_floats(reference.solitary),
    "pick_each": in_standard_floats(reference.pick_each),
    "nearest": in_standard_floats(reference.nearest),
    "choose_move": in_standard_floats(reference.choose_move),
}
TRITON: Final[dict[str, Callable[..., Any]]] = {
    "project": gpu.project,
    "step": gpu.step,
    "move": gpu.move,
    "flip": gpu.flip,
    "row_bits": gpu.row_bits,
    "project_out": without_gradient("project_out", writing_directly(gpu.project)),
    "step_out": without_gradient("step_out", writing_directly(gpu.step)),
    "quantize": gpu.quantize,
    "quantize_out": without_gradient("quantize_out", writing_directly(gpu.quantize)),
    "recover": gpu.recover,
    "pull": gpu.pull,
    "perturb": gpu.perturb,
    "perturb_out": without_gradient("perturb_out", writing_directly(gpu.perturb)),
}


_NAMED: Final = {"reference": REFERENCE, "triton": TRITON}


@functools.cache
def _warn_of_missing_kernels() -> None:
    warnings.warn(
        "expected Triton for tensors on a GPU, got none: the slow reference serves them; "
        "pip install 'mipoison[gpu]'",
        RuntimeWarning,
        stacklevel=2,
    )


def on_gpu(operation: str) -> Callable[..., Any]:
    """The Triton kernel of an operation; without Triton the reference, with one warning. Chosen at each call."""

    def call(*args: Any) -> Any:
        if gpu.available():
            return TRITON[operation](*args)
        _warn_of_missing_kernels()
        return REFERENCE[operation](*args)

    return call


def _rows_and_status(first: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return torch.empty_like(first, memory_format=torch.contiguous_format), first.new_empty(
        (), dtype=torch.int64
    )


def _integers(p: Tensor) -> Tensor:
    """One for each row."""
    return p.new_empty(p.shape[:1], dtype=torch.int64)


def _rows_integers_and_status(p: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    q, status = _rows_and_status(p)
    return q, _integers(p), status


def _row_bits_shape(p: Tensor, key: Tensor, draw: int, grid: float, words: int) -> Tensor:
    return p.new_empty((p.shape[0], words), dtype=torch.int64)


def _status_alone(*args: Any) -> Tensor:
    out: Tensor = args[-1]
    return out.new_empty((), dtype=torch.int64)


def _integers_and_status(*args: Any) -> tuple[Tensor, Tensor]:
    return _integers(args[0]), _status_alone(*args)


def _recover_shape(
    p: Tensor, network: Tensor, members: int, width: int, outputs: int
) -> tuple[Tensor, Tensor]:
    found = p.new_empty((p.shape[0], outputs), dtype=torch.float32)
    return found, p.new_empty((), dtype=torch.int64)


def _distances_shape(answers: Tensor, *_: Any) -> Tensor:
    return answers.new_empty(answers.shape[:2], dtype=torch.float32)


def _pull_shape(q: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    gradient = torch.empty_like(q, dtype=torch.float32, memory_format=torch.contiguous_format)
    return gradient, gradient.new_empty(q.shape[:1]), q.new_empty((), dtype=torch.int64)


def _clean_shape(p: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(
        p, dtype=torch.float32, memory_format=torch.contiguous_format
    ), p.new_empty((), dtype=torch.int64)


def _lead_shape(q: Tensor, *_: Any) -> Tensor:
    return q.new_empty(q.shape[:1], dtype=torch.float64)


def _lose_label_shape(q: Tensor, *_: Any) -> Tensor:
    return q.new_empty(q.shape[:1], dtype=torch.bool)


def _soften_shape(p: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(p, dtype=torch.float32, memory_format=torch.contiguous_format)


def _pick_each_shape(p: Tensor, *bank: Any) -> tuple[Tensor, Tensor]:
    words = bank[-1].shape
    return p.new_empty((*words, p.shape[1])), p.new_empty(words, dtype=torch.int64)


def _nearest_shape(p: Tensor, *rest: Any) -> Tensor:
    return p.new_empty((p.shape[0], rest[-1], p.shape[1]))


def _choose_move_shape(p: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return _integers(p), p.new_empty(p.shape[:1])


def _vjp_shape(v: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(v, memory_format=torch.contiguous_format)


_SHAPES: Final[dict[str, Callable[..., Any]]] = {
    "project": _rows_and_status,
    "step": _rows_and_status,
    "move": _rows_and_status,
    "flip": _rows_integers_and_status,
    "quantize": _rows_integers_and_status,
    "row_bits": _row_bits_shape,
    "project_out": without_gradient("project_out", _status_alone),
    "step_out": without_gradient("step_out", _status_alone),
    "quantize_out": without_gradient("quantize_out", _integers_and_status),
    "recover": _recover_shape,
    "pull": _pull_shape,
    "distances": _distances_shape,
    "perturb": _rows_and_status,
    "perturb_out": without_gradient("perturb_out", _status_alone),
    "clean": _clean_shape,
    "label_of": _integers,
    "lead": _lead_shape,
    "distance": _lead_shape,
    "lose_label": _lose_label_shape,
    "soften": _soften_shape,
    "solitary": _lose_label_shape,
    "pick_each": _pick_each_shape,
    "nearest": _nearest_shape,
    "choose_move": _choose_move_shape,
    "_project_by": _rows_and_status,
    "project_vjp": _vjp_shape,
}
# Operators with a derivative: the class that records it, and the number of differentiable first arguments.
_DERIVATIVES: Final = {
    "project": (Project, 1),
    "_project_by": (Project, 1),
    "project_vjp": (Pull, 2),
}


def forced(operation: str, backend: str) -> Callable[..., Any]:
    """The operation of the backend of that name, differentiable where the operator is."""
    if operation == "project":
        return lambda *inputs: torch.ops.mipoison._project_by(*inputs, backend)
    return _NAMED[backend][operation]


def _project_by(*args: Any) -> tuple[Tensor, Tensor]:
    *inputs, backend = args
    results: tuple[Tensor, Tensor] = _NAMED[backend]["project"](*inputs)
    return results


def _register() -> None:
    """Once in a process: a module that is imported again finds the operators of the first import."""
    namespace = torch.ops.mipoison
    registered = vars(namespace).get(_MARK)
    if registered is None:
        library = torch.library.Library("mipoison", "DEF")
        try:
            _define(library)
        except BaseException:
            # The next import shall tell the same, not that there is a library already.
            library._destroy()
            raise
        # Kept where no module takes it along when it goes: a library ends with its object.
        setattr(namespace, _MARK, (_SCHEMAS, library))
    elif registered[0] != _SCHEMAS:
        raise ImportError(
            "expected one version of mipoison in a process, got another than was imported first; start Python anew"
        )


def _define(library: torch.library.Library) -> None:
    for schema in _SCHEMAS:
        library.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    for name, implementation in REFERENCE.items():
        library.impl(name, implementation, "CompositeExplicitAutograd")
    cpu.register_operators(_GRADIENT_REFUSAL)
    for name in TRITON:
        library.impl(name, on_gpu(name), "CUDA")
    library.impl("_project_by", _project_by, "CompositeExplicitAutograd")
    library.impl(
        "project_vjp", in_standard_floats(reference.project_vjp), "CompositeExplicitAutograd"
    )
    for name, shape in _SHAPES.items():
        torch.library.register_fake(f"mipoison::{name}", shape, lib=library)
    for name in _SHAPES.keys() - _DERIVATIVES.keys():
        # Outputs without gradient, rather than with one that silently is none.
        library.impl(name, torch.library.fallthrough_kernel, "Autograd")
    for name, (function, varying) in _DERIVATIVES.items():
        kernel = recorded(function, getattr(torch.ops.mipoison, name).default, varying)
        library.impl(name, kernel, "Autograd", with_keyset=True)
    for name in _SHAPES.keys() - _DIFFERENTIABLE.keys():
        operator = getattr(torch.ops.mipoison, name).default
        rule = all_at_once if name == "project_vjp" else one_by_one
        torch.library.register_vmap(f"mipoison::{name}", rule(operator), lib=library)


_register()
# CPU tensors have no way to the compiled kernels but this.
CPP: Final[dict[str, Callable[..., Any]]] = {
    name: getattr(torch.ops.mipoison, name) for name in REFERENCE
}
