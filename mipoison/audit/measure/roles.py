"""Divide the rows of an audit among defender, adversary and victims, by groups, as a seed decides.

There is no private role: the vectors are given, and whatever the classifier was trained on is not asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

# Of the rows: who fits the defense, whom the adversary trains on, whom they reconstruct.
SHARES: Final[Mapping[str, float]] = {"defender": 0.25, "auxiliary": 0.5, "victims": 0.25}
# The fewest rows of each role that measure anything.
FEWEST: Final[Mapping[str, int]] = {"defender": 20, "auxiliary": 40, "victims": 20}


@dataclass(frozen=True)
class Roles:
    """Positions of the rows that each party holds, int64; no group is in two of them.

    Attributes:
        defender: fits the defenses.
        auxiliary: what the adversary trains on; rows of one group stand together.
        victims: what the adversary reconstructs.
        rest: rows of no role, since all roles are full; certificates use them too.
    """

    defender: Tensor
    auxiliary: Tensor
    victims: Tensor
    rest: Tensor

    @property
    def counts(self) -> dict[str, int]:
        """Rows by role."""
        return {name: len(getattr(self, name)) for name in (*SHARES, "rest")}


def divide(groups: Tensor, *, most: Mapping[str, int], seed: int) -> Roles:
    """Gives each role its share of the rows, and no more than it may have.

    Groups are shuffled, and each goes to the role that lacks most of its rows. A role that its last group overfills
    keeps a part of that group; the other rows of the group are left out.

    Args:
        groups: int64 [N]: rows of one number stay in one role.
        most: the most rows of each role in `SHARES`.
        seed: of the shuffles.

    Raises:
        ValueError: if a role gets fewer rows than `FEWEST`.

    Example:
        >>> roles = divide(torch.arange(400), most={"defender": 50, "auxiliary": 150, "victims": 100}, seed=0)
        >>> roles.counts
        {'defender': 50, 'auxiliary': 150, 'victims': 100, 'rest': 100}
    """
    generator = np.random.default_rng(seed)
    number = np.unique(groups.numpy(), return_inverse=True)[1]
    order = generator.permutation(len(number))
    # (Stable: rows of a group keep their shuffled order.)
    by_group = order[np.argsort(number[order], kind="stable")]
    members = np.split(by_group, np.cumsum(np.bincount(number))[:-1])
    due = {role: min(most[role], round(share * len(number))) for role, share in SHARES.items()}
    held: dict[str, list[np.ndarray]] = {role: [] for role in (*SHARES, "rest")}
    lacks = dict(due)
    for group in generator.permutation(len(members)):
        role = max(lacks, key=lambda name: lacks[name] / max(1, due[name]))
        if lacks[role] <= 0:
            held["rest"].append(members[group])
            continue
        held[role].append(members[group][: lacks[role]])
        lacks[role] -= len(members[group])
    rows = {
        role: torch.from_numpy(np.concatenate(parts) if parts else np.empty(0, np.int64))
        for role, parts in held.items()
    }
    for role, fewest in FEWEST.items():
        if len(rows[role]) < fewest:
            raise ValueError(
                f"expected enough rows for {fewest} {role} rows, got {len(rows[role])} out of {len(number)} in "
                f"{len(members)} groups; give more rows, or smaller groups"
            )
    return Roles(**rows)
