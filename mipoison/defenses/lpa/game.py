"""The bi-level game: adversaries train on the answers, and the answers maximise the error of all past adversaries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from mipoison.nn import RATE, initial, train
from mipoison.ops import unchecked
from mipoison.progress import Report
from mipoison.random import uniforms
from mipoison.reference.choose_move import penalty
from mipoison.reference.network import Layers, features
from mipoison.standards import feature_standards

_BATCH: Final = 128
# The game maximises this power of the squared error.
EXPONENTS: Final = {"root": 0.5, "squared": 1.0}
_HALVINGS: Final = 30
LARGEST_WEIGHT: Final = 1e6
# How sharply the best candidate is preferred, per round of the game.
SHARPNESS: Final = 20.0
# Numbers that are recovered at a time.
_ENTRIES: Final = 1 << 17


@dataclass(frozen=True)
class Rules:
    """How the game is played; the other values serve comparisons with the default.

    Attributes:
        rounds: how often the adversaries train.
        memory: how many of the last rounds' adversaries count; None: all.
        error: "root" or "squared" error of the adversaries, a key of EXPONENTS.
        without: kinds of candidates that are left out.
        width: units of each hidden layer of an adversary.
        epochs: passes over the answers, in the first round and in each later one.
        rate: the largest one of their training.
    """

    rounds: int = 10
    memory: int | None = None
    error: str = "root"
    without: tuple[str, ...] = ()
    width: int = 128
    epochs: tuple[int, int] = (8, 3)
    rate: float = 6 * RATE

    @property
    def sharpness(self) -> float:
        """How sharply the best candidate is preferred after the last round: SHARPNESS per round that counts."""
        return SHARPNESS * min(self.rounds, self.memory or self.rounds)


class _Memory:
    """Sums over the adversaries of the rounds that count.

    Args:
        limit: how many rounds; None: all, kept as one sum.
        nothing: a zero of each sum's shape.
    """

    def __init__(self, limit: int | None, nothing: tuple[Tensor, ...]) -> None:
        self._limit = limit
        self._nothing = nothing
        self._sums: list[tuple[Tensor, ...]] = []
        self.rounds = 0

    def begin(self) -> tuple[Tensor, ...]:
        """The sums that a round's adversaries are added to."""
        return self._sums.pop() if self._limit is None and self._sums else self._nothing

    def end(self, *sums: Tensor) -> None:
        """Stores the sums that include the round's adversaries."""
        self._sums = [*self._sums, sums][-(self._limit or 1) :]
        self.rounds = self.rounds + 1 if self._limit is None else len(self._sums)

    def mean(self, part: int) -> Tensor:
        """The mean of one of the sums; zeros before the first round."""
        total = self._nothing[part]
        for sums in self._sums:
            total = total + sums[part]
        return total / max(1, self.rounds)


@dataclass(frozen=True)
class Table:
    """The table that the game is played on: every candidate of every row.

    Attributes:
        candidates: [R, C, K], R = draws x rows.
        moved: ‖q − y‖₁ of each, [R, C].
        clean: what the clean surrogate recovers of the row, [R, D]. The adversaries train on it, not on the
            inputs: the rest of an input is noise to them, and with few rows they would memorise it.
        noise: Gumbel noise of each candidate, [R, C].
    """

    candidates: Tensor
    moved: Tensor
    clean: Tensor
    noise: Tensor


def gumbel(words: Tensor) -> Tensor:
    """Standard Gumbel noise from 32-bit words, float32."""
    return (-(-uniforms(words).log()).log()).to(torch.float32)


def choose(score: Tensor, moved: Tensor, noise: Tensor, weight: float, sharpness: float) -> Tensor:
    """The candidate of largest (score − weight · penalty) · sharpness + Gumbel noise; int64 [R]."""
    return ((score - weight * penalty(moved)) * sharpness + noise).argmax(1)


def bisect_penalty_weight(
    score: Tensor, moved: Tensor, noise: Tensor, budget: float, sharpness: float
) -> float:
    """The penalty weight at which the chosen candidates' mean move is the budget.

    It is negative where an unpenalized choice would spend less, and zero where no weight changes what is spent.
    """

    def spent(weight: float) -> float:
        index = choose(score, moved, noise, weight, sharpness)
        return float(moved.gather(1, index.unsqueeze(1)).double().mean())

    if spent(-LARGEST_WEIGHT) == spent(LARGEST_WEIGHT):
        return 0.0
    low, high = -1.0, 1.0
    while spent(high) > budget and high < LARGEST_WEIGHT:
        high *= 2
    while spent(low) < budget and low > -LARGEST_WEIGHT:
        low *= 2
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if spent(middle) > budget else (low, middle)
    return high


def play(
    table: Table,
    rules: Rules,
    *,
    budget: float,
    spread: float,
    seed: int,
    progress: Report,
) -> tuple[Tensor, Tensor]:
    """Plays the game.

    Args:
        table: every candidate of every row.
        rules: how it is played.
        budget: mean l1.
        spread: mean within-label variance of what the surrogate recovers.
        seed: of the adversaries' training.
        progress: told after every round.

    Returns:
        mean [R, C, D] and mean squared deviation [R, C] of what the adversaries of the rounds that count recover of
        each candidate.
    """
    lines, count, k = table.candidates.shape
    rows = table.candidates.reshape(-1, k)
    flat = features(rows)
    mean, scale = feature_standards(flat, k)
    flat = (flat - mean) / scale
    raw = flat * (torch.arange(flat.shape[1], device=flat.device) < k)
    kinds = torch.stack((raw, flat))
    generator = torch.Generator().manual_seed(seed)
    depth = table.clean.shape[1]
    shape = flat.shape[1], rules.width, depth
    state = initial(*shape, members=len(kinds), generator=generator, device=flat.device)
    nothing = torch.zeros_like(table.moved)
    past = _Memory(rules.memory, (nothing, nothing.new_zeros((lines, count, depth)), nothing))
    here = torch.arange(lines, device=flat.device)
    for turn in range(rules.rounds):
        score, sharpness = past.mean(0), SHARPNESS * max(1, past.rounds)
        weight = bisect_penalty_weight(score, table.moved, table.noise, budget, sharpness)
        index = choose(score, table.moved, table.noise, weight, sharpness)
        chosen = here * count + index
        state = train(
            state,
            kinds[:, chosen],
            table.clean,
            epochs=rules.epochs[min(turn, 1)],
            batch=_BATCH,
            generator=generator,
            rate=rules.rate,
        )
        sums = tuple(x.clone() for x in past.begin())
        for member, seen in enumerate((k, 2 * k)):
            first, *one = (value[member : member + 1] for value in state)
            # One adversary sees no logarithms.
            first = first * (torch.arange(first.shape[1], device=first.device) < seen).view(-1, 1)
            packed = Layers.of(mean, scale, [first, *one]).packed()
            networks = unchecked.Packed(packed, 1, first.shape[2], depth)
            _add(sums, table, networks, spread, EXPONENTS[rules.error], 1 / len(kinds))
        past.end(*sums)
        progress((turn + 1) / rules.rounds)
    recovery = past.mean(1)
    deviation = (past.mean(2) - recovery.square().sum(-1)).clamp_min(0.0)
    return recovery, deviation


def _add(
    sums: tuple[Tensor, ...],
    table: Table,
    networks: unchecked.Packed,
    spread: float,
    exponent: float,
    share: float,
) -> None:
    """Adds a share of what an adversary makes of each candidate to the sums of `play`, in place.

    Few enough lines at a time stay in the cache.
    """
    total, mean_of, square_of = sums
    lines, count, k = table.candidates.shape
    depth = networks.outputs
    few = max(1, _ENTRIES // (count * depth))
    for start in range(0, lines, few):
        part = slice(start, start + few)
        recovered = unchecked.recover(table.candidates[part].reshape(-1, k), networks)
        recovered = recovered.view(-1, count, depth)
        squared = (recovered - table.clean[part].unsqueeze(1)).square().sum(-1) / spread
        total[part] += squared**exponent * share
        mean_of[part] += recovered * share
        square_of[part] += recovered.square().sum(-1) * share
