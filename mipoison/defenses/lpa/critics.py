"""The defender's own adversaries, who tell on rows kept from them which of several defenses reveals less."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from mipoison.defenses.lpa.folds import folds
from mipoison.defenses.lpa.some import some_of
from mipoison.nn import evaluate, initial, train
from mipoison.ops.rows import label_of
from mipoison.progress import Progress
from mipoison.reference.network import whole_lanes
from mipoison.standards import Standardizer

_FOLDS: Final = 3
_WIDTH: Final = 128
_BATCH: Final = 64
# Passes over the rows: so many steps in all, within these bounds. What trees answer tells one leaf from another. Only
# long training finds that, and a codebook wipes it: beside one, networks are trained longer.
_STEPS: Final = 400, 2400
_PASSES: Final = 10, 60, 400
# They recover so many principal components of the inputs.
_COMPONENTS: Final = 32
# The logarithms of smaller entries are those of a floor: a confident classifier's smallest entries tell the most, but
# where moves have raised them, they are noise.
_FLOORS: Final = 1e-6, 1e-30
# At most so many rows are looked at.
_MOST: Final = 2000


def errors_of(
    answers: Sequence[Tensor],
    recovered: Tensor,
    groups: Tensor | None,
    *,
    seed: int,
    thorough: bool,
    progress: Progress,
) -> list[Tensor]:
    """How much adversaries of each defense err on rows kept from them: lower means that it reveals more.

    One adversary sees the answers, two their logarithms too, down to 1e-6 and to 1e-30. They are trained on the answers
    to two thirds of the rows and tried on the others, in turn. They learn what a surrogate recovers without a defense:
    the rest of an input is noise to them, and they have few rows. The mean squared error of the best is returned, out
    of all three, the mean of the first two, and the mean of all.

    Args:
        answers: of each defense to the same rows, [N, K] each, N ≥ 3.
        recovered: what a surrogate recovers of each row without a defense, [N, D].
        groups: int64 [N]: rows of one group are copies of one input, which are kept back together.
        seed: of the folds and the networks.
        thorough: six times as many steps, for what only long training finds.
        progress: told how much is done.

    Returns:
        Of each defense the errors, float64 [G], whose mean is that of its rows: of each of G groups the mean over its
        rows that were looked at.
    """
    seen = some_of(len(recovered), _MOST, recovered.device)
    some = [q[seen].to(torch.float32) for q in answers]
    goal = _components(recovered[seen].to(torch.float32))
    group = torch.arange(len(goal), device=goal.device) if groups is None else groups[seen]
    fold = folds(label_of(some[0]), group, _FOLDS, seed)
    turns = int(fold.max()) + 1
    made = []
    for i, q in enumerate(some):
        parts = torch.zeros(3, 5, len(goal), dtype=torch.float64, device=goal.device)
        for turn in range(turns):
            out = fold == turn
            parts[:, :, out] = _parts(q[~out], goal[~out], q[out], goal[out], seed, thorough)
            progress((i * turns + turn + 1) / (len(some) * turns))
        far, along, length = parts
        # Of each guess as much is believed as errs the least: few rows make networks say too much.
        share = along.sum(1, keepdim=True) / length.sum(1, keepdim=True).clamp_min(1e-300)
        share = share.clamp(0.0, 1.0)
        wrong = far - 2 * share * along + share.square() * length
        made.append(wrong[int(wrong.sum(1).argmin())])
    return [_group_means(errors, group) for errors in made]


def _group_means(errors: Tensor, group: Tensor) -> Tensor:
    """Mean error of each group's rows, scaled so that their mean is that of the rows; [G]."""
    members, index = group.unique(return_inverse=True)
    total = errors.new_zeros(len(members)).index_add(0, index, errors)
    return total * (len(members) / len(errors))


def _components(recovered: Tensor) -> Tensor:
    """Leading principal components of the recoveries [N, D], scaled to a total variance of one; [N, C]."""
    centered = recovered - recovered.mean(0)
    left, values, _ = torch.linalg.svd(centered, full_matrices=False)
    goal = (left * values)[:, :_COMPONENTS]
    scaled: Tensor = goal / goal.square().sum(1).mean().clamp_min(1e-30).sqrt()
    return scaled


def _parts(
    seen: Tensor, goal: Tensor, fresh: Tensor, hidden: Tensor, seed: int, thorough: bool
) -> Tensor:
    """What the errors of scaled guesses are made of, as differences from the label's mean goal; float64 [3, 5, n].

    The second axis: a network on the answers, two on their logarithms too, the mean of the first two, and of all. The
    first, of each fresh answer: the squared length of the truth, its product with the guess, and the guess's squared
    length.
    """
    steps = -(-len(seen) // _BATCH)
    before = _features(seen)
    standards = Standardizer.of(before)
    one, two = standards.apply(before), standards.apply(_features(fresh))
    generator = torch.Generator().manual_seed(seed)
    state = initial(
        *(one.shape[2], _WIDTH, goal.shape[1]),
        members=len(one),
        generator=generator,
        device=one.device,
    )
    fewest, *most = _PASSES
    passes = min(max(fewest, _STEPS[thorough] // steps), most[thorough])
    state = train(state, one, goal, epochs=passes, batch=_BATCH, generator=generator)
    guesses = evaluate(state, two)[-1][..., : goal.shape[1]]
    guesses = torch.cat((guesses, guesses[:2].mean(0, keepdim=True), guesses.mean(0, keepdim=True)))
    center = _label_means(seen, goal, fresh)
    off, truth = guesses - center, hidden - center
    far = truth.square().sum(1).expand(len(off), -1)
    along, length = (off * truth).sum(2), off.square().sum(2)
    return torch.stack((far, along, length)).double()


def _features(q: Tensor) -> Tensor:
    """[q], and [q, log q] down to each floor, in whole lanes; [3, n, F]."""
    made = [torch.cat((q, torch.zeros_like(q)), 1)]
    made += [torch.cat((q, q.clamp_min(floor).log()), 1) for floor in _FLOORS]
    lanes = whole_lanes(made[0].shape[1]) - made[0].shape[1]
    return torch.nn.functional.pad(torch.stack(made), (0, lanes))


def _label_means(seen: Tensor, goal: Tensor, fresh: Tensor) -> Tensor:
    """The mean goal of the seen answers' labels, for fresh ones; that of all for a label that was not seen."""
    label, k = label_of(seen), seen.shape[1]
    count = torch.bincount(label, minlength=k).unsqueeze(1)
    total = goal.new_zeros((k, goal.shape[1])).index_add(0, label, goal)
    means = torch.where(count > 0, total / count.clamp_min(1), goal.mean(0))
    return means[label_of(fresh)]
