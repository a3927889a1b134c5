"""Fit several kinds of answers, and keep the one that the defender's own adversaries err more on."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor

from mipoison.defenses.lpa.aim import Aim
from mipoison.defenses.lpa.codebook import Codebook
from mipoison.defenses.lpa.critics import errors_of
from mipoison.defenses.lpa.crossfit import fit_cross
from mipoison.defenses.lpa.cutoff import Cutoff
from mipoison.defenses.lpa.equilibrium import Equilibrium
from mipoison.defenses.lpa.frontier import FARTHEST
from mipoison.defenses.lpa.objective import Objective
from mipoison.defenses.lpa.penalized import Penalized, require_pairs
from mipoison.keys import Key
from mipoison.ops.rows import label_of
from mipoison.progress import Progress
from mipoison.surrogate import Surrogate

# With fewer rows, or rows of fewer inputs, adversaries tell little: the equilibrium is kept.
_FEWEST: Final = 128
_FEWEST_INPUTS: Final = 8
# Units of the surrogate, and its passes over the rows. With 30, the default, it has learned three quarters of what more
# passes teach it, and the networks would not be asked for the rest.
_SURROGATE: Final = {"width": 128, "epochs": 120}
# A confident classifier's other entries sum to less than this in half of the rows.
_ONE_HOT: Final = 1e-3
# The equilibrium is kept where adversaries err more on it by more standard errors of the difference than the first,
# and by more than the second as a share of the error on what has a certificate. (Few rows make its noise look better
# than it is.)
_CLEAR: Final = 3.0
_WORTH: Final = 0.08
# Answers of which more than this share are given to nobody else hide little, and their certificate says little: in
# general, and where most rows are one-hot, whose answers could be few.
_ALONE: Final = 0.6, 0.2
# With fewer rows a label no codebook is tried: its codewords would be rows.
_A_LABEL: Final = 24
# Labels alone that spend less than this share of the budget are the answer.
_MET: Final = 0.95


def choose(
    rows: Tensor,
    inputs: Tensor,
    groups: Tensor | None,
    aim: Aim,
    *,
    radius: float,
    progress: Progress,
) -> Objective:
    """The equilibrium, the cutoff or the codebook: whichever lets adversaries recover least at the same mean l1.

    The small entries of a confident classifier tell the most, and a cutoff wipes them in every row alike. Keyed moves
    of some rows hide more where the classifier is not confident. With few classes a few answers a label lie near most
    rows. In between none is known to be better, so all that can be fitted are tried. Of cutoff and codebook, whose
    answers are finitely many, the one is taken that adversaries err more on. Where they see no clear difference to the
    equilibrium, it is kept if two fifths of its answers or more are given to several rows, since it alone has a
    certificate then; else the equilibrium, since with as many answers as rows adversaries have memorised theirs and
    tell little.
    The cutoff alone is fitted where

    - half of the rows are one-hot but for 1e-3, and four fifths of its answers are given to several rows: with as few
      rows as a defender has, adversaries learn too little from the equilibrium's answers to such rows to tell what
      others with more rows learn;
    - labels alone spend less than the budget, and a row's move is capped, or fresh rows are too far from all codewords:
      no answer that keeps the label gains more under the strongest adversary.

    With fewer than 24 rows a label, or where a row's move is capped, no codebook is tried.
    Where one vector a label, the median of its rows, spends no more than the budget on them, and no row's move is
    capped, the codebook is the answer: it has one codeword for nearly every label, and no answer that keeps the label
    gains more than one does.

    Args:
        rows: the defender's rows, [N, K].
        inputs: what produced them, [N, ...].
        groups: int64 [N]: rows of one group are copies of one input.
        aim: of the equilibrium.
        radius: of each row's ball under the cutoff.
        progress: told how much is done.
    """
    require_pairs(rows)
    budget, game = aim.budget, progress.part(0.0, 0.7)
    assert budget is not None

    def equilibrium() -> Penalized:
        return fit_cross(Equilibrium, rows, inputs, groups, aim, game)

    if len(rows) < _FEWEST or (groups is not None and len(groups.unique()) < _FEWEST_INPUTS):
        return equilibrium()
    finite = replace(aim, epsilon=radius)
    free = radius >= FARTHEST
    if free and _spread(rows) <= budget:
        book = _codebook(rows, inputs, groups, finite)
        if book is not None:
            return book
    cut = Cutoff.fit(rows, inputs, groups, finite, Progress(None))
    cut.keyed = True
    wiped = cut.poison(rows, key=None, epsilon=radius, norm=aim.norm)
    confident = _confident(rows)
    few = confident and _alone(wiped, groups) <= _ALONE[confident]
    if few or _to_labels(rows) < _MET * budget:
        return cut
    enough = len(rows) >= _A_LABEL * rows.shape[1]
    book = _codebook(rows, inputs, groups, finite) if enough and free else None
    played = equilibrium()
    key = Key.public(b"auto %d" % aim.seed)
    moved = played.poison(rows, key=key, epsilon=aim.epsilon, norm=aim.norm)
    made: list[Objective] = [cut]
    answers = [wiped]
    if book is not None:
        made.append(book)
        answers.append(book.poison(rows, key=None, epsilon=radius, norm=aim.norm))
    recovered = Surrogate.fit(
        rows, inputs, **_SURROGATE, seed=aim.seed, progress=progress.part(0.7, 0.8)
    )(rows)
    ours, *theirs = errors_of(
        *((moved, *answers), recovered, groups),
        seed=aim.seed,
        thorough=enough,
        progress=progress.part(0.8, 1.0),
    )
    best = max(range(len(made)), key=lambda i: float(theirs[i].mean()))
    kept, errors = made[best], theirs[best]
    if _alone(answers[best], groups) <= _ALONE[confident]:
        return played if _clearly_above(ours, errors) else kept
    return kept if _clearly_above(errors, ours) else played


def _codebook(rows: Tensor, inputs: Tensor, groups: Tensor | None, aim: Aim) -> Codebook | None:
    """A codebook in the place of an objective with a key; None where fresh rows are too far from all codewords."""
    with suppress(ValueError):
        book = Codebook.fit(rows, inputs, groups, aim, Progress(None))
        book.keyed = True
        return book
    return None


def _clearly_above(ours: Tensor, theirs: Tensor) -> bool:
    """Whether errors on the same groups of rows, [G] each, are higher by more than chance and by a share that counts.

    Adversaries with few rows overfit the noise of keyed moves, and flatter them a little however many rows try them.
    """
    apart = ours - theirs
    chance = float(apart.std()) / math.sqrt(len(apart))
    return float(apart.mean()) > max(_CLEAR * chance, _WORTH * float(theirs.mean()))


def _alone(answers: Tensor, groups: Tensor | None) -> float:
    """The share of the rows [N, K] whose answer no row of another group has."""
    _, answer = answers.unique(dim=0, return_inverse=True)
    member = torch.arange(len(answers), device=answers.device) if groups is None else groups
    pairs = torch.stack([answer, member], 1).unique(dim=0)
    holders = pairs[:, 0].bincount()
    return float((holders[answer] == 1).double().mean())


def _spread(rows: Tensor) -> float:
    """The mean l1 distance of rows to the median of their label: the least that one answer a label spends on them."""
    label = label_of(rows)
    apart = [
        (some - some.median(0).values).abs().sum()
        for some in (rows[label == t].double() for t in label.unique())
    ]
    return float(torch.stack(apart).sum()) / len(rows)


def _to_labels(rows: Tensor) -> float:
    """The mean l1 distance of rows to their labels."""
    return float(2 * (1 - rows.amax(1).double()).mean())


def _confident(rows: Tensor) -> bool:
    """Whether half of the rows are almost one-hot."""
    return float((1 - rows.amax(1).double()).median()) < _ONE_HOT
