"""Let the adversary average the answers to several copies of each query.

A defense whose randomness is fresh is averaged away by asking again; a keyed one answers the same
question the same way, so the adversary asks slightly different ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from mipoison.eval.methods import Defense
from mipoison.eval.scalars import whole
from mipoison.eval.targets import serve

Ask = Callable[[Tensor], Tensor]


def deployed(model: nn.Module, defense: Defense, *, temperature: float) -> Ask:
    """Returns what the adversary can ask: inputs ``[n, D]`` to defended vectors ``[n, K]``.

    Args:
        model: the target classifier, inputs to logits.
        defense: served to defended vectors.
        temperature: the target's.
    """
    return lambda inputs: defense(serve(model, inputs, temperature=temperature))


def averaged(
    ask: Ask, inputs: Tensor, *, copies: Sequence[int], jitter: float, seed: int
) -> dict[int, Tensor]:
    """Returns the mean answer to each query and its jittered copies.

    The first copy is the query itself; the others have Gaussian noise added to every pixel and are
    cut at 0 and 1. Larger counts contain the copies of smaller ones, so that a curve over counts
    costs what its last point does. Ask for auxiliary rows and victims in one call, or with seeds
    of their own.

    Args:
        ask: the deployed system, see `deployed`.
        inputs: the queries, ``[n, D]``, pixels in [0, 1].
        copies: how many answers are averaged, each at least 1.
        jitter: standard deviation of the noise; 0 repeats the query exactly.
        seed: of the noise.

    Returns:
        Count to vectors ``[n, K]`` in float32, in the order of the counts.

    Raises:
        ValueError: if a count is below 1 or the jitter is negative.

    Example:
        >>> means = averaged(lambda x: x, torch.tensor([[0.5, 0.5]]), copies=(1, 64), jitter=0.1, seed=0)
        >>> means[1].tolist(), bool((means[64] - 0.5).abs().max() < 0.05)
        ([[0.5, 0.5]], True)
    """
    if not copies or min(copies) < 1:
        raise ValueError(f"copies: expected counts >= 1, got {tuple(copies)}")
    if not jitter >= 0:
        raise ValueError(f"jitter: expected a number >= 0, got {jitter}")
    generator = torch.Generator().manual_seed(whole("seed", seed))
    # In float64 the mean of equal answers is that answer, to the bit.
    total = ask(inputs).double()
    means = {1: total.float()}
    for count in range(2, max(copies) + 1):
        noise = torch.randn(inputs.shape, generator=generator)
        total = total + ask((inputs + jitter * noise).clamp(0.0, 1.0)).double()
        if count in copies:
            means[count] = (total / count).float()
    return {count: means[count] for count in copies}
