"""The performance targets of this version, set for one thread; on a CPU, for a machine with AVX-512."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Target:
    """A ratio that must be at most (or at least) a limit."""

    limit: float
    at_least: bool = False

    def __str__(self) -> str:
        """The limit as column heads show it."""
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}"

    def judge(self, value: float) -> str:
        """Compares a value with the limit: "met" or "missed"."""
        reached = value >= self.limit if self.at_least else value <= self.limit
        return "met" if reached else "missed"


# `step` without a ball ÷ softmax(out=), by K.
OVER_SOFTMAX: Final = {
    10: Target(0.15),
    30: Target(1.3),
    100: Target(2.0),
    200: Target(2.2),
    400: Target(1.9),
    1000: Target(1.4),
    10_000: Target(1.25),
    128_000: Target(1.5),
}
# `step` without a ball ÷ add(out=), by K.
OVER_ADD: Final = {10: Target(5)}
# `step` with a ball ÷ `step` without one, by norm, at every K.
OVER_NO_BALL: Final = {"l1": Target(6), "l2": Target(5), "linf": Target(4)}
TWO_THREADS: Final = Target(0.6)
TWO_THREADS_FROM: Final = 100
# A rival's time ÷ that of `step` without a ball, at every K.
UNDER_RIVAL: Final = {
    "sort": Target(10, at_least=True),
    "sparsemax": Target(10, at_least=True),
    "compiled newton": Target(5, at_least=True),
}
# `quantize` ÷ softmax(out=), by K, and the time of torch.cdist ÷ that of `quantize`.
QUANTIZE_OVER_SOFTMAX: Final = {10: Target(0.6), 1000: Target(5)}
UNDER_CDIST: Final = Target(20, at_least=True)
# Microseconds of one call of the operator, N = 1, K = 10, without a ball.
CALL: Final = Target(4)
# Microseconds of one call in a replayed graph on a GPU, N = 32, K = 1000, without a ball.
GRAPH_CALL: Final = Target(12)


def over_add_on_gpu(k: int, dtype: str, norm: str) -> Target | None:
    """The target for `step` without a ball ÷ add on the same bytes; None where there is no target."""
    if norm != "none":
        return None
    if dtype in ("float16", "bfloat16"):
        return Target(2.5)
    if dtype == "float32" and 1000 <= k <= 16_384:
        return Target(1.4)
    return Target(2.5) if dtype == "float32" and 10 <= k <= 400 else None
