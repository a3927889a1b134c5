"""Let the adversary know everything but the key: train on answers drawn under other keys.

Whoever knows the algorithm, the model and the defender's data can run the defense under keys of
their own. Several draws a row teach an inversion model what the real key might have done.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mipoison.eval.data import Role
from mipoison.eval.methods import Defense
from mipoison.eval.seeding import derive_seed


def simulated_draws(
    build: Callable[[int], Defense],
    clean: Tensor,
    queries: Tensor,
    auxiliary: Role,
    *,
    draws: int,
    held_out: int,
    seed: int,
) -> tuple[Tensor, Role]:
    """Returns the queries and auxiliary rows of `attack`, with simulated answers added.

    Each row that is trained on comes with its real answer and ``draws`` simulated ones. The rows
    kept back stay at the end, with their real answers alone: an adversary chooses its variant by
    the system that it attacks.

    Args:
        build: key to defense, everything but the key being the deployment's own. Where fitting
            is slow, fit once and give the fitted defense another key.
        clean: undefended vectors of the auxiliary rows, ``[n, K]``: the adversary has the model.
        queries: what the deployed defense answered, ``[n, K]``.
        auxiliary: the adversary's own rows.
        draws: simulated answers a row.
        held_out: rows at the end that are kept back.
        seed: of the adversary's keys.

    Returns:
        Vectors ``[(draws + 1) * (n - held_out) + held_out, K]``, and the rows behind them.

    Raises:
        ValueError: if there is nothing to draw.

    Example:
        >>> own = Role(torch.rand(5, 4), torch.zeros(5), torch.arange(5))
        >>> p = torch.full((5, 2), 0.5)
        >>> vectors, rows = simulated_draws(
        ...     lambda key: lambda served: served, p, p, own, draws=2, held_out=2, seed=0
        ... )
        >>> rows.rows.tolist()
        [0, 1, 2, 0, 1, 2, 0, 1, 2, 3, 4]
    """
    if draws < 1:
        raise ValueError(f"draws: expected a number >= 1, got {draws}")
    fitted = len(auxiliary) - held_out
    keys = [derive_seed(seed, "simulated key", str(draw)) for draw in range(draws)]
    answers = [queries[:fitted], *(build(key)(clean[:fitted]) for key in keys), queries[fitted:]]
    positions = torch.arange(fitted).repeat(draws + 1)
    order = torch.cat([positions, torch.arange(fitted, len(auxiliary))])
    return torch.cat(answers), auxiliary.where(order)
