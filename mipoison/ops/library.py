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
from mipoison.ops import shapes
from mipoison.ops.derivative import Project, Pull, all_at_once, differentiated, one_by_one, recorded
from mipoison.ops.schemas import SCHEMAS

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
    "stray": in_standard_floats(reference.stray),
    "keyed_step": in_standard_floats(reference.keyed_step),
    "approach": in_standard_floats(reference.approach),
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
    "keyed_step": gpu.keyed_step,
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


_SHAPES: Final[dict[str, Callable[..., Any]]] = {
    "project": shapes.rows_and_status,
    "step": shapes.rows_and_status,
    "move": shapes.rows_and_status,
    "flip": shapes.rows_integers_and_status,
    "quantize": shapes.rows_integers_and_status,
    "row_bits": shapes.words,
    "project_out": without_gradient("project_out", shapes.status_alone),
    "step_out": without_gradient("step_out", shapes.status_alone),
    "quantize_out": without_gradient("quantize_out", shapes.integers_and_status),
    "recover": shapes.recovered,
    "pull": shapes.pulled,
    "distances": shapes.distances,
    "perturb": shapes.rows_and_status,
    "perturb_out": without_gradient("perturb_out", shapes.status_alone),
    "clean": shapes.clean,
    "label_of": shapes.integers,
    "lead": shapes.number_a_row,
    "distance": shapes.number_a_row,
    "lose_label": shapes.truth_a_row,
    "soften": shapes.softened,
    "stray": shapes.truths_and_status,
    "keyed_step": shapes.rows,
    "approach": shapes.rows_and_status,
    "solitary": shapes.truth_a_row,
    "pick_each": shapes.picked,
    "nearest": shapes.nearest,
    "choose_move": shapes.chosen,
    "_project_by": shapes.rows_and_status,
    "project_vjp": shapes.rows,
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
        setattr(namespace, _MARK, (SCHEMAS, library))
    elif registered[0] != SCHEMAS:
        raise ImportError(
            "expected one version of mipoison in a process, got another than was imported first; start Python anew"
        )


def _define(library: torch.library.Library) -> None:
    for schema in SCHEMAS:
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
