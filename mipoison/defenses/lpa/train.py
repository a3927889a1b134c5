"""Fit an objective on the defender's rows: one call for all of them."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from mipoison.defenses.bank import Bank
from mipoison.defenses.clean import as_dtype
from mipoison.defenses.lpa.aim import Aim
from mipoison.defenses.lpa.alignment import Alignment
from mipoison.defenses.lpa.ascent import Ascent
from mipoison.defenses.lpa.codebook import Codebook
from mipoison.defenses.lpa.crossfit import fit_cross
from mipoison.defenses.lpa.cutoff import Cutoff
from mipoison.defenses.lpa.decoy import Decoy
from mipoison.defenses.lpa.direction import Direction
from mipoison.defenses.lpa.objective import Objective
from mipoison.defenses.lpa.penalized import Penalized
from mipoison.progress import Progress
from mipoison.surrogate import Surrogate

# Units and members of the surrogates that answers are computed with. Larger ones take twice as long and protect no
# better, smaller ones protect less (decision 19).
_WIDTH: Final = 128
_MEMBERS: Final = 3
_MEMBERS_OF_ASCENT: Final = 2


def train(
    kind: type[Objective],
    rows: Tensor,
    inputs: Tensor | None,
    groups: Tensor | None,
    aim: Aim,
    progress: Progress,
) -> Objective:
    """Fits an objective.

    Args:
        kind: its class.
        rows: clean rows, [N, K].
        inputs: what produced them, [N, ...]; None only for `Direction`.
        groups: int64 [N]: rows of one group are copies of one input.
        aim: the settings.
        progress: told how much is done.
    """
    if inputs is None or kind is Direction:
        return Direction()
    if issubclass(kind, (Codebook, Cutoff)):
        return kind.fit(rows, inputs, groups, aim, progress)
    if issubclass(kind, Penalized):
        return fit_cross(kind, rows, inputs, groups, aim, progress)
    members = _MEMBERS_OF_ASCENT if kind is Ascent else _MEMBERS
    size = {"members": members, "width": _WIDTH}
    surrogate = Surrogate.fit(rows, inputs, **size, seed=aim.seed, progress=progress.part(0.0, 0.8))
    single = as_dtype(rows, torch.float32)
    if issubclass(kind, Alignment):
        return kind.fit(surrogate, single, inputs, seed=aim.seed)
    return Decoy(surrogate, Bank(single)) if kind is Decoy else Ascent(surrogate)
