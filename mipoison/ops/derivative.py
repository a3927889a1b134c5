"""The derivative of the projection, in reverse and in forward mode.

J is symmetric, so that one operator, `project_vjp`, computes both J·v and vᵀ·J. It is linear in v, with derivative J
there. In z it is piecewise constant, except in an l2 ball, where a second derivative is refused.

Each operator has a kernel for the dispatcher's key "Autograd" that records its derivative and runs once for each level
of `torch.func`: `torch.library.register_autograd` supports reverse mode only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import _C, Tensor
from torch._functorch.utils import enable_single_level_autograd_function
from torch.autograd import forward_ad
from torch.autograd.function import _SingleLevelFunction

_SECOND = (
    "expected first derivatives of a projection into an l2 ball, got a second one, which is not implemented; use "
    'norm="l1" or "linf", whose second derivatives are zero, or detach the first one; for J·v use torch.func.jvp, '
    "since torch.autograd.functional.jvp differentiates twice"
)


class Project(_SingleLevelFunction):
    """`project` at one level, differentiable in z only."""

    @staticmethod
    def forward(
        operation: Callable[..., Any], z: Tensor, p: Tensor | None, t: Tensor | None, *settings: Any
    ) -> Any:
        """Runs the operator below this level."""
        return operation(z, p, t, *settings)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        """Saves the arguments of the derivative."""
        rows, ctx.settings, ctx.inputs = inputs[1:4], inputs[4:8], len(inputs)
        ctx.save_for_backward(*rows)
        ctx.save_for_forward(*rows)
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, v: Tensor | None, _status: Tensor | None) -> Any:
        """Jᵀv."""
        return None, _along(ctx, v), *[None] * (ctx.inputs - 2)

    @staticmethod
    def jvp(ctx: Any, _operation: None, v: Tensor | None, *_constants: Any) -> Any:
        """Jv."""
        return _moved(ctx, v), None


def _along(ctx: Any, v: Tensor | None) -> Tensor | None:
    """J·v of a recorded projection."""
    return None if v is None else _pull(v, *ctx.saved_tensors, *ctx.settings)


def _moved(ctx: Any, v: Tensor | None) -> Tensor:
    """The same in forward mode, where torch expects a tensor even for a zero tangent.

    Torch turns forward mode off here, also for the levels below, which would lose the tangents of a derivative. It is
    turned on again, so z must be separated from its tangent at this level.
    """
    z, *constants = ctx.saved_tensors
    if v is None:
        return torch.zeros_like(z)
    with forward_ad._set_fwd_grad_enabled(True):
        return _pull(v, forward_ad.unpack_dual(z).primal, *constants, *ctx.settings)


def _pull(*arguments: Any) -> Tensor:
    pulled: Tensor = torch.ops.mipoison.project_vjp(*arguments)
    return pulled


class Pull(_SingleLevelFunction):
    """`project_vjp` at one level."""

    @staticmethod
    def forward(operation: Callable[..., Any], v: Tensor, *point: Any) -> Any:
        """Runs the operator below this level."""
        return operation(v, *point)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Saves the arguments of the derivative."""
        rows, ctx.settings = inputs[2:5], inputs[5:]
        epsilon, norm, *_ = ctx.settings
        ctx.save_for_backward(*rows)
        ctx.save_for_forward(*rows)
        ctx.set_materialize_grads(False)
        # Without a center there is no ball.
        ctx.curved = norm == "l2" and epsilon is not None and rows[1] is not None

    @staticmethod
    def backward(ctx: Any, w: Tensor | None) -> Any:
        """Jᵀw for v."""
        _, wants_v, wants_z, *_ = ctx.needs_input_grad
        if w is not None and wants_z and ctx.curved:
            raise NotImplementedError(_SECOND)
        return None, _along(ctx, w) if wants_v else None, *[None] * 7

    @staticmethod
    def jvp(
        ctx: Any, _operation: None, v: Tensor | None, z: Tensor | None, *_constants: Any
    ) -> Tensor:
        """J times the change of v."""
        if z is not None and ctx.curved:
            raise NotImplementedError(_SECOND)
        return _moved(ctx, v)


def differentiated(x: Tensor) -> bool:
    """Whether results of x have a derivative, in reverse or in forward mode."""
    if torch.is_grad_enabled() and x.requires_grad:
        return True
    return forward_ad.unpack_dual(x).tangent is not None


def recorded(function: type[Any], operator: Any, varying: int) -> Callable[..., Any]:
    """The kernel for the key "Autograd" of an operator with a derivative.

    Args:
        function: records a call.
        operator: the operator's overload.
        varying: it is differentiable in this many of its first arguments.
    """

    def call(keyset: Any, *arguments: Any) -> Any:
        if any(map(differentiated, arguments[:varying])):
            with enable_single_level_autograd_function():
                return function.apply(_below(operator), *arguments)
        with _C._AutoDispatchBelowAutograd():
            return operator.redispatch(keyset & _C._after_autograd_keyset, *arguments)

    return call


def _below(operator: Any) -> Callable[..., Any]:
    """The operator below this level; recording, which torch turns off for all levels, stays on for those below."""
    reverse, forward = torch.is_grad_enabled(), _C._is_fwd_grad_enabled()

    def call(*arguments: Any) -> Any:
        with (
            torch.set_grad_enabled(reverse),
            forward_ad._set_fwd_grad_enabled(forward),
            _C._AutoDispatchBelowAutograd(),
        ):
            return operator(*arguments)

    return call


def one_by_one(operator: Any) -> Callable[..., Any]:
    """The rule for `torch.vmap` of an operator whose results include one number for each call."""

    def rule(info: Any, places: tuple[int | None, ...], *arguments: Any) -> Any:
        def of(i: int) -> Any:
            pairs = zip(arguments, places, strict=True)
            return operator(*(x if at is None else x.select(at, i) for x, at in pairs))

        results = [of(i) for i in range(info.batch_size)]
        if isinstance(results[0], Tensor):
            return torch.stack(results), 0
        stacked = tuple(torch.stack(result) for result in zip(*results, strict=True))
        return stacked, (0,) * len(stacked)

    return rule


def all_at_once(operator: Any) -> Callable[..., Any]:
    """The rule for `torch.vmap` of an operator that works row by row."""

    def rule(info: Any, places: tuple[int | None, ...], *arguments: Any) -> tuple[Tensor, int]:
        size = info.batch_size

        def flat(x: Any, at: int | None) -> Any:
            if not isinstance(x, Tensor):
                return x
            batched = x.expand(size, *x.shape) if at is None else x.movedim(at, 0)
            return batched.flatten(0, 1)

        result = operator(*map(flat, arguments, places))
        return result.unflatten(0, (size, result.shape[0] // size)), 0

    return rule
