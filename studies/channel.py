"""Bounds what any answers could hide at a mean l1 from an adversary who knows how they are made.

    python studies/channel.py [--jobs JOBS] [--seeds SEED ...] [--out FILE] [--lfw FOLDER]

Writes `studies/numbers/channel.csv`; five minutes of one core, and fifteen with FOLDER, which holds faces of LFW and a
classifier's logits on them.

A defense is a channel: with what probability a row i is answered with each of some vectors j. An adversary who knows
the channel guesses of an answer the mean h_j of what its rows tell, f_i. So the gain is the mean of |f_i - h_j|² over
rows and answers, in units of what the label leaves open. It is concave in the probabilities. Mirror ascent maximises
it less a price on the l1 moved, and any guesses h bound every channel to the same vectors from above, by weak duality:

    gain ≤ price · l1 + mean over i of max over j of (|f_i - h_j|² - price · |p_i - q_j|).

Answers are the vectors of all rows of the label, and rows half-way to the label's median. What a row tells is what
surrogates recover of it that were trained on other rows.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

import torch
from csv_rows import Row
from kept import NUMBERS
from presets import STUDIES, in_folder
from torch import Tensor
from trials import run_trials

from mipoison.eval.configuration import Configuration
from mipoison.eval.run.cell import prepare
from mipoison.eval.run.environment import one_thread
from mipoison.ops.rows import label_of
from mipoison.surrogate import Surrogate

FILE: Final = NUMBERS / "channel.csv"
BUDGETS: Final = (0.05, 0.1, 0.2)
PRICES: Final = (0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 5.5, 7.5, 10.0)
_STEPS: Final = 400
_RATE: Final = 0.2
_FOLDS: Final = 4
# Most principal components of what rows tell.
_COMPONENTS: Final = 64


class Setting(NamedTuple):
    """A study, a temperature, how long surrogates learn, and the most rows: pairs of a label's rows are compared."""

    study: str
    temperature: float
    epochs: int
    rows: int


DIGITS: Final = Setting("standard", 3.0, 120, 1797)
# With more passes surrogates of a thousand classes overfit.
FACES: Final = (
    Setting("study-lfw-imagenet", 1.0, 6, 2000),
    Setting("study-lfw-imagenet-softened", 2.0, 6, 2000),
)


class Channel(NamedTuple):
    """The best channel at a price, summed over rows: what it moves and hides, and what bounds all channels."""

    moved: float
    hidden: float
    bound: float


def best_channel(
    p: Tensor, told: Tensor, answers: Tensor, price: float, *, steps: int = _STEPS
) -> Channel:
    """Maximises what is hidden less the price of the moves.

    Args:
        p: rows of one label, float64 [n, K].
        told: what each tells, float64 [n, D]; the mean squared distance from the mean of a label is about one.
        answers: what may be answered, float64 [J, K].
        price: of a unit of l1.
        steps: of mirror ascent.
    """
    distance = torch.cdist(p, answers, p=1)
    logits = torch.zeros_like(distance)
    for _ in range(steps):
        value = _values(logits.softmax(1), told) - price * distance
        logits = logits + _RATE * (value - value.amax(1, keepdim=True))
    channel = logits.softmax(1)
    values = _values(channel, told)
    best = (values - price * distance).amax(1).sum()
    return Channel(float((channel * distance).sum()), float((channel * values).sum()), float(best))


def _values(channel: Tensor, told: Tensor) -> Tensor:
    """|f_i - h_j|² of all rows and answers, [n, J]."""
    guess = channel.T @ told / channel.sum(0).clamp_min(1e-300).unsqueeze(1)
    return torch.cdist(told, guess).square()


def frontier(p: Tensor, told: Tensor, price: float) -> Channel:
    """Of all labels together, per row, in units of what labels leave open."""
    label = label_of(p)
    parts = [(p[label == t].double(), told[label == t].double()) for t in label.unique()]
    spread = sum(float((own - own.mean(0)).square().sum()) for _, own in parts) / len(p)
    found = []
    for rows, own in parts:
        half = (rows + rows.median(0).values) / 2
        found.append(best_channel(rows, own / spread**0.5, torch.cat((rows, half)), price))
    return Channel(*(sum(part) / len(p) for part in zip(*found, strict=True)))


def recovered(p: Tensor, inputs: Tensor, *, epochs: int, seed: int) -> Tensor:
    """What surrogates that were trained on other rows recover of each, [N, D]."""
    order = torch.randperm(len(p), generator=torch.Generator().manual_seed(seed))
    told = torch.empty_like(inputs)
    for part in order.chunk(_FOLDS):
        others = torch.ones(len(p), dtype=torch.bool)
        others[part] = False
        own = Surrogate.fit(p[others], inputs[others], width=128, epochs=epochs, seed=seed)
        told[part] = own.reconstruct(p[part])
    return told


def components(told: Tensor) -> Tensor:
    """The leading principal components, float64 [N, C], so that distances take less time."""
    apart = told.double() - told.double().mean(0)
    *_, basis = torch.linalg.svd(apart, full_matrices=False)
    return apart @ basis[:_COMPONENTS].T


def trial(setting: Setting, seed: int) -> list[Row]:
    """One seed's bounds, and the gains of the best channels that were found."""
    return _bounds(setting, STUDIES[setting.study], seed)


def of_faces(setting: Setting, folder: Path, seed: int) -> list[Row]:
    """The same of a study that reads its faces from a folder."""
    return _bounds(setting, in_folder(STUDIES[setting.study], folder), seed)


def _bounds(setting: Setting, study: Configuration, seed: int) -> list[Row]:
    with one_thread():
        made = prepare(study, seed)
        roles = (made.parts.defender, made.parts.auxiliary, made.parts.victims)
        p = torch.cat([made.served(role, temperature=setting.temperature) for role in roles])
        inputs = torch.cat([role.inputs.flatten(1) for role in roles])
        told = components(recovered(p, inputs, epochs=setting.epochs, seed=seed))
        some = torch.randperm(len(p), generator=torch.Generator().manual_seed(seed))[: setting.rows]
        best = {price: frontier(p[some], told[some], price) for price in PRICES}
    points = [(one.moved, one.hidden) for one in best.values()]
    return [
        {"study": setting.study, "temperature": setting.temperature, "seed": seed, "l1": budget}
        | {
            "bound": min(one.bound + price * budget for price, one in best.items()),
            "found": _between(points, budget),
        }
        for budget in BUDGETS
    ]


def _between(points: list[tuple[float, float]], l1: float) -> float:
    """What is hidden at an l1 by serving some rows by one channel and others by another."""
    ordered = sorted([(0.0, 0.0), *points])
    for (low, less), (high, more) in pairwise(ordered):
        if low <= l1 <= high:
            return less + (more - less) * (l1 - low) / max(high - low, 1e-12)
    return ordered[-1][1]


if __name__ == "__main__":
    run_trials(
        [partial(trial, DIGITS)],
        __doc__,
        FILE,
        faces=[partial(of_faces, setting) for setting in FACES],
    )
