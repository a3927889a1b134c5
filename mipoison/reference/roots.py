"""Roots of many monotone functions at once, each kept in its bracket."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

# A set counts as empty only beyond this: rounding must not put p outside its ball.
SLACK: Final = 1e-12
# Fifty-three halvings exhaust the mantissa of a unit bracket; the others are for wide brackets.
_MOST_STEPS: Final = 200


def monotone_root(
    function: Callable[[Tensor], tuple[Tensor, Tensor]],
    low: Tensor,
    high: Tensor,
    start: Tensor | None = None,
) -> Tensor:
    """Finds x in [low, high] with f(x) = 0 for a non-decreasing f; Newton inside a shrinking bracket.

    A Newton step that leaves the bracket, and every third step, is replaced by a halving: on piecewise
    linear functions an unguarded Newton iteration can cycle, and at a jump there is no root to step to.
    Rows are frozen once they are done, so that a row's result does not depend on its neighbours.

    Args:
        function: x [N] → (f(x), slope ≥ 0), each [N].
        low: lower ends, [N]; f(low) ≤ 0 is assumed.
        high: upper ends, [N]; f(high) ≥ 0 is assumed.
        start: first guess, [N]; the middle by default.

    Returns:
        x [N]: an exact zero, or the point of the sign change to the resolution of float64.
    """
    middle = low + (high - low) / 2
    x = middle if start is None else torch.minimum(torch.maximum(start, low), high)
    done = torch.zeros_like(x, dtype=torch.bool)
    for step in range(_MOST_STEPS):
        value, slope = function(x)
        low = torch.where(~done & (value <= 0), x, low)
        high = torch.where(~done & (value >= 0), x, high)
        newton = x - value / slope
        middle = low + (high - low) / 2
        inside = (newton > low) & (newton < high)
        guess = torch.where(inside, newton, middle) if step % 3 < 2 else middle
        resolved = (value == 0) | (middle <= low) | (middle >= high)
        # Only a Newton step below the resolution ends a row: then f is zero to rounding.
        resolved = resolved | (newton == x)
        done = done | resolved
        if bool(done.all()):
            break
        x = torch.where(done, x, guess)
    return x
