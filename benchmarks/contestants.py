"""`step` and the algorithms that it is timed against, each from the same q and g to the projected rows.

All of them form z = q + α·g/‖g‖₂ and project it onto the simplex. Sorting and sparsemax ignore the label, so they do
less work than `step`. Where the label stays the largest entry anyway, all give the same answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from rows import ALPHA
from torch import Tensor

from mipoison.nn import evaluate, initial
from mipoison.ops.library import REFERENCE
from mipoison.reference.network import features
from mipoison.standards import feature_standards

Step = Callable[[Tensor, Tensor], Tensor]

# The error that a fixed number of Newton steps must reach, as guaranteed for sums.
CONVERGED = 1e-6
MOST_STEPS = 20


def arguments(
    p: Tensor, g: Tensor, epsilon: float = math.inf, norm: str = "l1", center: Tensor | None = None
) -> tuple[object, ...]:
    """Arguments of the `step` operator, from q = p. With a finite ε the ball is around the center, by default p."""
    around = None if math.isinf(epsilon) else p if center is None else center
    return (p, g, around, None, ALPHA, epsilon, norm, 0.0, False)


def step_into(out: Tensor, *given: object) -> Callable[[], object]:
    """Our `step` with `out=`, as softmax and add are timed. Its result is checked before it is timed."""
    torch.ops.mipoison.step_out(*given, out.fill_(math.nan))
    assert torch.equal(out, torch.ops.mipoison.step(*given)[0])
    return lambda: torch.ops.mipoison.step_out(*given, out)


def step_to_new_output(*given: object) -> Callable[[], object]:
    """Our `step` with a new output tensor."""
    return lambda: torch.ops.mipoison.step(*given)


def baselines(p: Tensor, g: Tensor, out: Tensor) -> dict[str, Callable[[], object]]:
    """The two operations in every race: softmax, a similar pass over rows, and add, the lower bound."""
    return {
        "softmax": lambda: torch.softmax(p, 1, out=out),
        "add": lambda: torch.add(p, g, out=out),
    }


def with_threads(threads: int, contestant: Callable[[], object]) -> Callable[[], object]:
    """The contestant, run with another number of threads."""

    def run() -> None:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        contestant()
        torch.set_num_threads(before)

    return run


def stepped(q: Tensor, g: Tensor) -> Tensor:
    """The step before projection, q + α·g/‖g‖₂."""
    return q + ALPHA * g / g.norm(dim=1, keepdim=True)


def by_sorting(q: Tensor, g: Tensor) -> Tensor:
    """The textbook projection (Held et al. 1974; Duchi et al. 2008): sort, cumulative sum, threshold."""
    z = stepped(q, g)
    u = z.sort(dim=1, descending=True).values
    excess = u.cumsum(1) - 1
    count = torch.arange(1, z.shape[1] + 1)
    support = (u * count > excess).sum(1, keepdim=True)
    return (z - excess.gather(1, support - 1) / support).clamp_min(0)


def by_sparsemax(q: Tensor, g: Tensor) -> Tensor:
    """The step projected by entmax.sparsemax, which is the projection onto the simplex."""
    from entmax import sparsemax

    with torch.no_grad():
        projected: Tensor = sparsemax(stepped(q, g), dim=1)
    return projected


def by_newton(q: Tensor, g: Tensor, pool_steps: int, threshold_steps: int) -> Tensor:
    """The algorithm of `mipoison.reference` without a ball, in the inputs' dtype, by a fixed number of Newton steps.

    No step reads a value back, so torch.compile makes one graph of it.
    """
    z = stepped(q, g)
    label = q.argmax(1, keepdim=True)
    label_value = z.gather(1, label)
    is_label = torch.arange(q.shape[1]) == label
    w = label_value
    for _ in range(pool_steps):
        excess = torch.where(is_label, 0.0, (z - w).clamp_min(0))
        w = w + (excess.sum(1, keepdim=True) + label_value - w) / (
            1 + (excess > 0).sum(1, keepdim=True)
        )
    pooled = torch.where(is_label, w, torch.minimum(z, w))
    tau = w - 1
    for _ in range(threshold_steps):
        excess = (pooled - tau).clamp_min(0)
        tau = tau + (excess.sum(1, keepdim=True) - 1) / (excess > 0).sum(1, keepdim=True)
    return (pooled - tau).clamp_min(0)


def newton_steps(q: Tensor, g: Tensor) -> tuple[int, int]:
    """The fewest Newton steps for each root that bring every row within CONVERGED: the best case for `by_newton`."""
    q, g = q.to(torch.float64), g.to(torch.float64)
    exact = by_newton(q, g, MOST_STEPS, MOST_STEPS)

    def enough(pool: int, threshold: int) -> bool:
        return float((by_newton(q, g, pool, threshold) - exact).abs().max()) <= CONVERGED

    pool = next(steps for steps in range(MOST_STEPS + 1) if enough(steps, MOST_STEPS))
    return pool, next(steps for steps in range(MOST_STEPS + 1) if enough(pool, steps))


def newton(steps: tuple[int, int]) -> Step:
    """`by_newton` with these numbers of steps."""
    return lambda q, g: by_newton(q, g, *steps)


def compiled_newton(steps: tuple[int, int]) -> Step:
    """`newton` compiled by torch.compile for one shape."""
    return torch.compile(newton(steps), dynamic=False, fullgraph=True)


def by_reference(q: Tensor, g: Tensor) -> Tensor:
    """`mipoison.reference`, eager and in float64, with roots to the last digit."""
    projected: Tensor = REFERENCE["step"](q, g, None, None, ALPHA, math.inf, "l1", 0.0, False)[0]
    return projected


def by_jaxopt() -> Step:
    """The projection of jaxopt, jitted and mapped over rows. It shares memory with torch and uses all cores."""
    import jax
    import jax.numpy as jnp
    from jaxopt.projection import projection_simplex

    @jax.jit
    def step(q: jax.Array, g: jax.Array) -> jax.Array:
        z = q + ALPHA * g / jnp.linalg.norm(g, axis=1, keepdims=True)
        return jax.vmap(projection_simplex)(z)

    def run(q: Tensor, g: Tensor) -> Tensor:
        projected = step(jnp.from_dlpack(q), jnp.from_dlpack(g))
        return torch.from_dlpack(projected.block_until_ready())

    return run


def plain_forward(p: Tensor, candidates: int, width: int, outputs: int) -> Callable[[], Tensor]:
    """The forward of a network with two hidden layers on so many candidates a row, by plain torch."""
    generator = torch.Generator().manual_seed(0)
    rows = p.repeat_interleave(candidates, 0)
    x = features(rows)
    mean, scale = feature_standards(x, p.shape[1])
    size = x.shape[1], width, outputs
    state = initial(*size, members=1, generator=generator, device=p.device)

    def forward() -> Tensor:
        return evaluate(state, ((features(rows) - mean) / scale).unsqueeze(0))[-1][0]

    return forward
