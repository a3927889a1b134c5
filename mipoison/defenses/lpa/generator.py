"""Generator: the game of the equilibrium with answers from a table, a few microseconds a row."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, ClassVar, Final, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from mipoison import ops
from mipoison.defenses.bank import SAME, Bank, away
from mipoison.defenses.clean import as_dtype
from mipoison.defenses.lpa.candidates import kept
from mipoison.defenses.lpa.game import EXPONENTS, Rules, Table, gumbel, penalty, play
from mipoison.defenses.lpa.key_cells import KeyCells
from mipoison.defenses.lpa.penalized import (
    DRAWS,
    TABLE,
    Penalized,
    Weighed,
    require_reachable,
)
from mipoison.defenses.lpa.recovery import COMPONENTS, Recovery
from mipoison.defenses.storage import below
from mipoison.nn import Network
from mipoison.ops.validation import as_part
from mipoison.progress import Progress
from mipoison.random import Key
from mipoison.reference import label_of
from mipoison.reference.project import distance as length
from mipoison.surrogate import Surrogate

# Shares of the way toward a bank vector.
_SHARES: Final = (1.0, 0.5, 0.25)
# A row is compared with at most _SLOTS bank vectors of its label, of which the key leaves about _LEFT, or half of
# fewer. Each vector takes one bit of a keyed word, which has _BITS.
_SLOTS: Final = 64
_LEFT: Final = 8
_BITS: Final = 32
# In the game each row moves toward its nearest vector in _NEAREST subsets, each half of the last, and toward _RANDOM
# vectors.
_NEAREST: Final = 4
_RANDOM: Final = 3
_NETWORK: Final = {"width": 128, "epochs": 20, "batch": 256}
# At most this many entries are compared at a time.
_ENTRIES: Final = 1 << 20


class _Moves(NamedTuple):
    """Moves of rows toward their label's vectors.

    Attributes:
        score: the adversaries' error on the row itself, and then for each share on each slot, float32
            [N, 1 + shares · slots]; −∞ where the key excludes the move.
        spent: their l1 moves, of the same shape.
        place: which vectors of the bank, int64 [N, slots].
        without_bank: rows whose label has no other vector, bool [N, 1]; they move by the budget.
    """

    score: Tensor
    spent: Tensor
    place: Tensor
    without_bank: Tensor


class Generator(Penalized):
    """Answers with the row itself or a point on the way to a keyed bank vector of its label, by a table of scores.

    The game is that of `Equilibrium`, with moves toward the bank only. The adversaries' recovery from every bank vector
    is computed once, when the defense is fitted. That from the row is predicted by one small network, and that from
    points between the two is interpolated. So a move is scored by two dot products, and only the best is made.

    Args:
        bank: output vectors of the defender's own, non-private, data.
        network: predicts the clean surrogate's recovery from a row, the adversaries' recovery, and their deviation.
        recovered: the adversaries' recovery G(v) from the bank's vectors, their deviation, and the squared length of
            both together, [M, COMPONENTS + 2].
        penalty_weight: λ.
        budget: mean l1 move.
        error: "root" or "squared" error of the adversaries.
        key_cells: which rows share their keyed words.
    """

    name: ClassVar[str] = "generator"
    candidates_a_row: ClassVar[int] = 1 + (_NEAREST + _RANDOM) * len(_SHARES)
    recovered: Tensor

    def __init__(
        self,
        bank: Bank,
        network: Network,
        recovered: Tensor,
        *,
        penalty_weight: float,
        budget: float,
        error: str,
        key_cells: KeyCells,
    ) -> None:
        super().__init__()
        self.bank = as_part("bank", bank, Bank, "mp.LPA.fit")
        self.network = as_part("network", network, Network, "mp.LPA.fit")
        self.register_buffer("recovered", recovered)
        self.penalty_weight = penalty_weight
        self.sharpness = 1.0
        self.budget = budget
        self.error = error
        self.key_cells = key_cells

    @property
    def classes(self) -> int:
        """K of the bank."""
        return self.bank.vectors.shape[1]

    @classmethod
    def fit(
        cls,
        rows: Tensor,
        inputs: Any,
        *,
        budget: float,
        epsilon: float,
        norm: str,
        error: str = "root",
        seed: int = 0,
        progress: Progress,
    ) -> Generator:
        """Plays the game on the defender's rows [N, K] and their inputs."""
        surrogate = Surrogate.fit(rows, inputs, seed=seed, progress=progress.part(0.0, 0.1))
        with torch.inference_mode(False), torch.no_grad():
            single = as_dtype(rows, torch.float32).clone()
            bank = Bank(single)
            # With many rows and classes, a share of the rows fills the table.
            count = cls.candidates_a_row
            some = single[:: -(-single.numel() * count // TABLE)]
            draws = max(1, min(DRAWS, TABLE // (some.numel() * count)))

            # 1. The game, on moves toward the bank.
            answers = _trials(some, bank, budget, epsilon, norm, draws=draws, seed=seed)
            everyone = some.repeat(draws, 1)
            moved = (answers - everyone.unsqueeze(1)).abs().sum(-1)
            require_reachable(float(moved.amax(1).double().mean()), budget, epsilon)
            places = answers.flatten(0, 1)
            seen, clean = surrogate(places), surrogate(some)
            recovery = Recovery.of(seen, clean, some)
            generator = torch.Generator().manual_seed(seed)
            words = torch.randint(1 << 32, moved.shape, generator=generator, device="cpu").to(
                some.device
            )
            table = Table(answers, moved, clean.repeat(draws, 1), gumbel(words))
            mean, deviation = play(
                table,
                Rules(error=error),
                budget=budget,
                spread=recovery.spread,
                seed=seed,
                progress=progress.part(0.1, 0.5),
            )

            # 2. One network in place of the surrogate and all adversaries, and its recovery from the bank.
            goal = torch.cat((recovery.reduced(seen), recovery.of_game(mean, deviation)), 1)
            network = Network.fit(
                places,
                goal,
                seed=seed + 1,
                progress=progress.part(0.5, 0.95),
                **_NETWORK,
            )
            recovered = _recovered(network, bank)

            # 3. The penalty weight.
            fitted = cls(
                bank,
                network,
                recovered,
                penalty_weight=0.0,
                budget=budget,
                error=error,
                key_cells=KeyCells.of(some),
            )
            fitted.penalty_weight = fitted.weight_for(some, budget, epsilon=epsilon, norm=norm)
        return fitted

    def with_bank(self, vectors: Tensor) -> Generator:
        """See `Penalized.with_bank`."""
        bank = Bank(vectors)
        names = ("penalty_weight", "budget", "error", "key_cells")
        how = {name: getattr(self, name) for name in names}
        return Generator(bank, self.network, _recovered(self.network, bank), **how)

    def poison(self, p: Tensor, *, key: Key, epsilon: float, norm: str) -> Tensor:
        """See `Objective.poison`."""
        label = label_of(p)
        vectors, shares, without_bank = [], [], []
        for moves in self._moves(as_dtype(p, torch.float32, label), key, epsilon, norm):
            value, best = (moves.score - self.penalty_weight * penalty(moves.spent)).max(
                1, keepdim=True
            )
            slots = moves.place.shape[1]
            slot, share = (best - 1) % slots, torch.div(best - 1, slots, rounding_mode="floor") + 1
            vectors.append(self.bank.vectors[moves.place.gather(1, slot).squeeze(1)])
            shares.append(moves.spent.new_tensor((0.0, *_SHARES))[share])
            # Scores that overflow say nothing of the moves.
            without_bank.append(moves.without_bank | ~value.isfinite())
        target = _between(p, torch.cat(vectors), torch.cat(shares), label)
        target = torch.where(torch.cat(without_bank), _aside(p, label, self.budget), target)
        return ops.move(p, target, epsilon=epsilon, norm=norm)

    def weigh(self, p: Tensor, *, key: Key, epsilon: float, norm: str) -> Weighed:
        """See `Penalized.weigh`."""
        made = list(self._moves(p, key, epsilon, norm))
        score = torch.cat([moves.score for moves in made])
        # Rows without a bank always spend the budget, which leaves less to the others.
        always = min(self.budget, epsilon)
        spent = torch.cat([moves.spent.masked_fill(moves.without_bank, always) for moves in made])
        return Weighed(score, spent, torch.zeros_like(score))

    def _moves(self, p: Tensor, key: Key, epsilon: float, norm: str) -> Iterator[_Moves]:
        """The moves of rows [N, K] in float32, for as many rows at a time as fit into a cache."""
        label = label_of(p)
        slots = self.bank.slots(_SLOTS)
        halvings = max(1, (slots // _LEFT).bit_length() - 1)
        words = self.key_cells.words(p, halvings * -(-slots // _BITS), key=key)
        # A vector is kept where all its bits are one.
        words = functools.reduce(torch.bitwise_and, words.chunk(halvings, dim=1))
        predicted = self.network(p)[:, : 2 * COMPONENTS + 1]
        height = max(1, _ENTRIES // (slots * max(p.shape[1], COMPONENTS)))
        for start in range(0, len(p), height):
            at = slice(start, start + height)
            given = p[at], label[at], words[at], predicted[at]
            yield self._weigh_some(*given, epsilon=epsilon, norm=norm)

    def _weigh_some(
        self,
        p: Tensor,
        label: Tensor,
        words: Tensor,
        predicted: Tensor,
        *,
        epsilon: float,
        norm: str,
    ) -> _Moves:
        place, distance = self.bank.others(p, label, _SLOTS)
        absent = torch.isinf(distance)
        distance = distance.masked_fill_(absent, 0.0)
        # 1. The shares of the way to each vector that the ball allows.
        far = distance
        if norm != "l1":
            far = length(self.bank.vectors[place], p.unsqueeze(1), norm)
        most = (epsilon / far.clamp_min(SAME)).clamp_max_(1.0)
        shares = torch.minimum(p.new_tensor(_SHARES).view(-1, 1), most.unsqueeze(1))
        spent = shares * distance.unsqueeze(1)
        # 2. ‖(1 − s) G(p) + s G(v) − m(p)‖² = ‖off‖² + s · (slope + s · curve).
        clean, of_adversaries = predicted.split((COMPONENTS, COMPONENTS + 1), 1)
        off = of_adversaries - F.pad(clean, (0, 1))
        of_row = torch.stack(
            (F.pad(2 * off, (0, 1)), F.pad(-2 * of_adversaries, (0, 1), value=1.0)), 1
        )
        constant = torch.stack(
            (
                -2 * torch.linalg.vecdot(off, of_adversaries),
                torch.linalg.vecdot(of_adversaries, of_adversaries),
            ),
            1,
        )
        there = self.recovered.index_select(0, place.flatten()).view(*place.shape, -1)
        both = torch.baddbmm(constant.unsqueeze(2), of_row, there.transpose(1, 2))
        slope, curve = both[:, :1], both[:, 1:].clamp_min_(0.0)
        bare = torch.linalg.vecdot(off, off).unsqueeze(1)
        error = (shares * curve).add_(slope).mul_(shares).add_(bare.unsqueeze(1)).clamp_min_(0.0)
        exponent = EXPONENTS[self.error]
        # 3. The key excludes vectors. A row without any moves by the budget.
        bits = (words.unsqueeze(2) >> torch.arange(_BITS, device=p.device)) & 1
        out = absent | (bits.flatten(1)[:, : place.shape[1]] == 0)
        score = error.pow_(exponent).masked_fill_(out.unsqueeze(1), -torch.inf)
        without_bank = absent.all(1, keepdim=True)
        stays = spent.new_zeros(len(p), 1)
        return _Moves(
            torch.cat((bare**exponent, score.flatten(1)), 1),
            torch.cat((stays, spent.flatten(1)), 1),
            place,
            without_bank,
        )

    @classmethod
    def restore(cls, settings: dict[str, Any], tensors: dict[str, Tensor]) -> Generator:
        """See `Objective.restore`."""
        bank = Bank(tensors["bank.vectors"])
        network = Network(below("network", tensors))
        kept = {name: settings[name] for name in ("penalty_weight", "budget", "error")}
        key_cells = KeyCells(settings["grid"], settings["temperature"])
        return cls(bank, network, tensors["recovered"], key_cells=key_cells, **kept)


def _recovered(network: Network, bank: Bank) -> Tensor:
    """What the adversaries recover from the bank's vectors, see `Generator`: [M, COMPONENTS + 2]."""
    recovered = network(bank.vectors)[:, COMPONENTS : 2 * COMPONENTS + 1]
    size = torch.linalg.vecdot(recovered, recovered).unsqueeze(1)
    return torch.cat((recovered, size), 1)


def _trials(
    p: Tensor, bank: Bank, budget: float, epsilon: float, norm: str, *, draws: int, seed: int
) -> Tensor:
    """The game's answers to rows [N, K]: [draws · N, COUNT, K], in each draw the rows themselves first."""
    label = label_of(p)
    place, distance = bank.others(p, label, _SLOTS)
    without_bank = torch.isinf(distance).all(1, keepdim=True)
    aside = _aside(p, label, budget)
    generator = torch.Generator().manual_seed(seed)

    def drawn() -> Tensor:
        draw = torch.rand(distance.shape, generator=generator, dtype=torch.float32, device="cpu")
        return draw.to(p.device)

    made = []
    for _ in range(draws):
        near = [distance.masked_fill(drawn() >= 2.0**-j, torch.inf) for j in range(_NEAREST)]
        some = [drawn().masked_fill(torch.isinf(distance), torch.inf) for _ in range(_RANDOM)]
        answers = [p]
        for order in (*near, *some):
            least, slot = order.min(1, keepdim=True)
            vector = bank.vectors[place.gather(1, slot).squeeze(1)]
            vector = torch.where(torch.isinf(least), p, vector)
            for share in _SHARES:
                target = _between(p, vector, p.new_full((len(p), 1), share), label)
                target = torch.where(without_bank, aside, target)
                answers.append(ops.move(p, target, epsilon=epsilon, norm=norm))
        made.append(torch.stack(answers, 1))
    return torch.cat(made)


def _between(p: Tensor, vector: Tensor, share: Tensor, label: Tensor) -> Tensor:
    """A share [N, 1] of the way from rows to vectors of their label; the row where rounding loses the label."""
    return kept(p + share.to(p.dtype) * (vector.to(p.dtype) - p), p, label)


def _aside(p: Tensor, label: Tensor, budget: float) -> Tensor:
    """The answer to a row whose label has no other vector: a move by the budget toward `away`."""
    return ops.move(p, away(p, label), epsilon=budget)
