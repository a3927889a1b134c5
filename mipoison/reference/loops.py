"""Loops that end once every row is done; a graph that is traced contains them as one node each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mipoison.exporting import eager, tracing


def traced() -> bool:
    """Whether calls become a graph, in which nothing that was computed can be read back."""
    return not eager() and (torch.compiler.is_compiling() or tracing())


def repeat(
    step: Callable[..., tuple[Tensor, ...]], state: tuple[Tensor, ...], most: int
) -> tuple[Tensor, ...]:
    """Repeats a step until every row is done, `most` times at most.

    Args:
        step: maps the number of the step and the state to the next state, and changes no row that is done.
        state: tensors, the last of which tells the rows that are done; bool [N].
        most: bound on the number of steps.

    Returns:
        the last state.
    """
    if traced():
        return _in_a_graph(step, state, most)
    for number in range(most):
        state = step(number, *state)
        if bool(state[-1].all()):
            break
    return state


def _in_a_graph(
    step: Callable[..., tuple[Tensor, ...]], state: tuple[Tensor, ...], most: int
) -> tuple[Tensor, ...]:
    """See `repeat`."""
    from torch._higher_order_ops import while_loop

    def going_on(number: Tensor, *state: Tensor) -> Tensor:
        return (number < most) & ~state[-1].all()

    def once(number: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        return (number + 1, *step(number, *state))

    # (A loop may not carry one tensor twice, nor one that it also reads.)
    first = torch.zeros((), dtype=torch.int64, device=state[-1].device)
    last: Any = while_loop(going_on, once, (first, *(x.clone() for x in state)))
    return tuple(last[1:])
