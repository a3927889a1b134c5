"""The operators as PyTorch knows them: schemas, implementations by device, shapes, derivative.

CPU tensors go to the compiled extension; every other device to the reference, until it has kernels
of its own. One low-level `Library` with one schema per operation costs less per call than
`torch.library.custom_op`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch import Tensor

from mipoison import cpu, reference

_LIBRARY: Final = torch.library.Library("mipoison", "DEF")

_SCHEMAS: Final = (
    "project(Tensor z, Tensor? p, Tensor? t, float epsilon, str norm, float margin, bool shrink)"
    " -> (Tensor, Tensor)",
    "step(Tensor q, Tensor g, Tensor? p, Tensor? t, float alpha, float epsilon, str norm,"
    " float margin, bool shrink) -> (Tensor, Tensor)",
    "move(Tensor p, Tensor target, float epsilon, str norm, str style) -> (Tensor, Tensor)",
    "flip(Tensor p, Tensor? targets, float rate, Tensor key, str style) -> (Tensor, Tensor, Tensor)",
    "row_bits(Tensor p, Tensor key, int draw, float grid, int words) -> Tensor",
    # The derivative is an operator too, so that traced graphs hold it whole.
    "project_vjp(Tensor v, Tensor z, Tensor? p, Tensor? t, float epsilon, str norm, float margin,"
    " bool shrink) -> Tensor",
)


def counting(operation: Callable[..., tuple[Tensor, ...]]) -> Callable[..., tuple[Tensor, ...]]:
    """Turns a reference operation's mask of valid rows into the operators' count of invalid ones."""

    def counted(*args: Any) -> tuple[Tensor, ...]:
        *results, valid = operation(*args)
        return (*results, (~valid).sum())

    return counted


REFERENCE: Final[dict[str, Callable[..., Any]]] = {
    "project": counting(reference.project),
    "step": counting(reference.step),
    "move": counting(reference.move),
    "flip": counting(reference.flip),
    "row_bits": reference.row_bits,
}
CPP: Final[dict[str, Callable[..., Any]]] = {
    "project": cpu.project,
    "step": cpu.step,
    "move": cpu.move,
    "flip": cpu.flip,
    "row_bits": cpu.row_bits,
}


def _rows_and_status(first: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return torch.empty_like(first, memory_format=torch.contiguous_format), first.new_empty(
        (), dtype=torch.int64
    )


def _flip_shapes(p: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    q, status = _rows_and_status(p)
    return q, p.new_empty(p.shape[:1], dtype=torch.int64), status


def _row_bits_shape(p: Tensor, key: Tensor, draw: int, grid: float, words: int) -> Tensor:
    return p.new_empty((p.shape[0], words), dtype=torch.int64)


def _vjp_shape(v: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(v, memory_format=torch.contiguous_format)


_SHAPES: Final[dict[str, Callable[..., Any]]] = {
    "project": _rows_and_status,
    "step": _rows_and_status,
    "move": _rows_and_status,
    "flip": _flip_shapes,
    "row_bits": _row_bits_shape,
    "project_vjp": _vjp_shape,
}


def _save_for_derivative(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    z, p, t, *settings = inputs
    ctx.save_for_backward(z, p, t)
    ctx.settings = settings
    ctx.mark_non_differentiable(output[1])


def _derivative(ctx: Any, v: Tensor, _status: Tensor | None) -> tuple[Tensor | None, ...]:
    z, p, t = ctx.saved_tensors
    pulled = torch.ops.mipoison.project_vjp(v, z, p, t, *ctx.settings)
    return (pulled, *([None] * 6))


class _Project(torch.autograd.Function):
    """`project` by a backend that was asked for by name, with the operator's derivative."""

    @staticmethod
    def forward(operation: Callable[..., Any], *inputs: Any) -> Any:
        """Runs the backend."""
        return operation(*inputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        """Keeps what the derivative needs."""
        _save_for_derivative(ctx, inputs[1:], output)

    @staticmethod
    def backward(ctx: Any, v: Tensor, status: Tensor | None) -> Any:
        """The closed form."""
        return (None, *_derivative(ctx, v, status))


def forced(operation: str, backend: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
    """The backend's operation outside the dispatcher, differentiable where the operator is."""
    if operation == "project":
        return lambda *inputs: _Project.apply(backend["project"], *inputs)  # type: ignore[no-untyped-call]
    return backend[operation]


def _register() -> None:
    for schema in _SCHEMAS:
        _LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    for name, implementation in REFERENCE.items():
        _LIBRARY.impl(name, implementation, "CompositeExplicitAutograd")
    for name, implementation in CPP.items():
        _LIBRARY.impl(name, implementation, "CPU")
    _LIBRARY.impl("project_vjp", reference.project_vjp, "CompositeExplicitAutograd")
    for name, shape in _SHAPES.items():
        torch.library.register_fake(f"mipoison::{name}", shape, lib=_LIBRARY)
    for name in _SHAPES.keys() - {"project"}:
        # Outputs without gradient, rather than with one that silently is none.
        _LIBRARY.impl(name, torch.library.fallthrough_kernel, "Autograd")
    torch.library.register_autograd(
        "mipoison::project", _derivative, setup_context=_save_for_derivative, lib=_LIBRARY
    )


_register()
