"""Divide the rows of a data set among the roles, without overlap, as the seed decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor


def by_count(total: int, sizes: Mapping[str, int], *, seed: int) -> dict[str, Tensor]:
    """Shuffles all rows and gives each role as many as it is due.

    Args:
        total: rows of the data set.
        sizes: role to number of rows; together at most ``total``.
        seed: of the shuffle.

    Returns:
        Role to int64 positions.

    Example:
        >>> rows = by_count(10, {"private": 6, "victims": 4}, seed=0)
        >>> sorted(torch.cat(list(rows.values())).tolist())
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    """
    order = torch.from_numpy(np.random.default_rng(seed).permutation(total))
    return dict(
        zip(sizes, order.split([*sizes.values(), total - sum(sizes.values())]), strict=False)
    )


def by_class(
    labels: Tensor, shares: Mapping[str, float], *, seed: int, names: Sequence[object] = ()
) -> dict[str, Tensor]:
    """Gives each role its share of every class, so that no class is missing from a role.

    Args:
        labels: ``[n]``, classes from 0.
        shares: role to share; they sum to 1.
        seed: of the shuffles.
        names: what the classes are called, for a message; their numbers if nothing else.

    Returns:
        Role to int64 positions, the classes mixed.

    Raises:
        ValueError: if a class has too few images for every role to get one.

    Example:
        >>> rows = by_class(torch.tensor([0] * 4 + [1] * 4), {"private": 0.5, "victims": 0.5}, seed=0)
        >>> [int((own < 4).sum()) for own in rows.values()]
        [2, 2]
    """
    generator = np.random.default_rng(seed)
    edges = np.cumsum([0.0, *shares.values()])
    dealt: dict[str, list[Tensor]] = {role: [] for role in shares}
    for label in range(int(labels.max()) + 1):
        own = torch.from_numpy(generator.permutation(torch.where(labels == label)[0].numpy()))
        cuts = np.rint(edges * len(own)).astype(int)
        for role, start, end in zip(shares, cuts[:-1], cuts[1:], strict=True):
            if start == end:
                name = names[label] if names else label
                raise ValueError(
                    f"class {name}: expected enough images to give one to each of {list(shares)}, "
                    f"got {len(own)}; add images or leave the class out"
                )
            dealt[role].append(own[start:end])
    return {
        role: torch.from_numpy(generator.permutation(torch.cat(parts).numpy()))
        for role, parts in dealt.items()
    }
