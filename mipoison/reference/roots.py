"""Roots of many monotone functions at once, each kept in its bracket."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor

from mipoison.reference.loops import repeat

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

    def narrow(
        step: Any, x: Tensor, low: Tensor, high: Tensor, done: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        value, slope = function(x)
        low = torch.where(~done & (value <= 0), x, low)
        high = torch.where(~done & (value >= 0), x, high)
        newton = x - value / slope
        middle = low + (high - low) / 2
        guess = torch.where((newton > low) & (newton < high) & (step % 3 < 2), newton, middle)
        resolved = (value == 0) | (middle <= low) | (middle >= high)
        # Only a Newton step below the resolution ends a row: then f is zero to rounding.
        resolved = resolved | (newton == x)
        done = done | resolved
        return torch.where(done, x, guess), low, high, done

    middle = low + (high - low) / 2
    x = middle if start is None else torch.minimum(torch.maximum(start, low), high)
    state = (x, low, high, torch.zeros_like(x, dtype=torch.bool))
    return repeat(narrow, state, _MOST_STEPS)[0]
