"""The defender's own adversaries, who tell on rows kept from them which of several defenses reveals less."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from mipoison.defenses.lpa.folds import folds
from mipoison.nn import evaluate, initial, standardizer, train
from mipoison.ops.rows import label_of
from mipoison.progress import Progress
from mipoison.reference.network import whole_lanes

_FOLDS: Final = 3
_WIDTH: Final = 128
_BATCH: Final = 64
# Passes over the rows: so many steps in all, within these bounds.
_STEPS: Final = 600
_PASSES: Final = 10, 60
# They recover so many principal components of the inputs.
_COMPONENTS: Final = 32
# The logarithms of smaller entries are those of this floor: a confident classifier's smallest entries tell the most.
_FLOOR: Final = 1e-30
# At most so many rows are looked at.
_MOST: Final = 2000


def errors_of(
    answers: Sequence[Tensor],
    inputs: Tensor,
    groups: Tensor | None,
    *,
    seed: int,
    progress: Progress,
) -> list[float]:
    """How much adversaries of each defense err on rows kept from them: lower means that it reveals more.

    One adversary sees the answers, one their logarithms too, down to 1e-30. Both are trained on the answers to two
    thirds of the rows and recover the inputs of the others, in turn. The sum of two mean squared errors is returned:
    that of the first, and that of the best of both, their mean, and the label's mean input.

    Args:
        answers: of each defense to the same rows, [N, K] each, N ≥ 3.
        inputs: those of the rows, [N, D].
        groups: int64 [N]: rows of one group are copies of one input, which are kept back together.
        seed: of the folds and the networks.
        progress: told how much is done.
    """
    stride = -(-len(inputs) // _MOST)
    some = [q[::stride].to(torch.float32) for q in answers]
    goal = _components(inputs[::stride].to(torch.float32))
    fold = folds(label_of(some[0]), None if groups is None else groups[::stride], _FOLDS, seed)
    turns = int(fold.max()) + 1
    totals = []
    for i, q in enumerate(some):
        wrong = torch.zeros(4, dtype=torch.float64)
        for turn in range(turns):
            done = (i * turns + turn) / (len(some) * turns)
            out = fold == turn
            wrong += _errors(q[~out], goal[~out], q[out], goal[out], seed)
            progress(done)
        wrong /= len(goal)
        totals.append(float(wrong[0] + wrong.min()))
    progress(1.0)
    return totals


def _components(inputs: Tensor) -> Tensor:
    """Leading principal components of the inputs [N, D], scaled to a total variance of one; [N, C]."""
    centered = inputs - inputs.mean(0)
    left, values, _ = torch.linalg.svd(centered, full_matrices=False)
    goal = (left * values)[:, :_COMPONENTS]
    scaled: Tensor = goal / goal.square().sum(1).mean().clamp_min(1e-30).sqrt()
    return scaled


def _errors(seen: Tensor, goal: Tensor, fresh: Tensor, hidden: Tensor, seed: int) -> Tensor:
    """Summed squared errors on fresh answers: of a network on the answers, one on logarithms too, both, and labels."""
    k, steps = seen.shape[1], -(-len(seen) // _BATCH)
    mean, scale = standardizer(_features(seen))
    one, two = ((_features(q) - mean) / scale for q in (seen, fresh))
    raw = (torch.arange(one.shape[1], device=one.device) < k).to(one.dtype)
    kinds = torch.stack((raw, torch.ones_like(raw))).unsqueeze(1)
    generator = torch.Generator().manual_seed(seed)
    state = initial(
        *(one.shape[1], _WIDTH, goal.shape[1]), members=2, generator=generator, device=one.device
    )
    passes = min(max(_PASSES[0], _STEPS // steps), _PASSES[1])
    state = train(state, one * kinds, goal, epochs=passes, batch=_BATCH, generator=generator)
    guesses = evaluate(state, two * kinds)[-1][..., : goal.shape[1]]
    average = torch.stack([*guesses, guesses.mean(0), _label_means(seen, goal, fresh)])
    return (average - hidden).square().sum((1, 2)).double().cpu()


def _features(q: Tensor) -> Tensor:
    """[q, log q] in whole lanes."""
    both = torch.cat((q, q.clamp_min(_FLOOR).log()), 1)
    return torch.nn.functional.pad(both, (0, whole_lanes(both.shape[1]) - both.shape[1]))


def _label_means(seen: Tensor, goal: Tensor, fresh: Tensor) -> Tensor:
    """The mean goal of the seen answers' labels, for fresh ones; that of all for a label that was not seen."""
    label, k = label_of(seen), seen.shape[1]
    count = torch.bincount(label, minlength=k).unsqueeze(1)
    total = goal.new_zeros((k, goal.shape[1])).index_add(0, label, goal)
    means = torch.where(count > 0, total / count.clamp_min(1), goal.mean(0))
    return means[label_of(fresh)]
