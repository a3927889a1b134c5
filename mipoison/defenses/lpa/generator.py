"""Generator: the game of the equilibrium with answers from a table, a few microseconds a row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Final

import torch
from torch import Tensor

from mipoison.defenses.bank import Bank, away
from mipoison.defenses.clean import as_dtype, in_memory
from mipoison.defenses.lpa.game import Rules, Table, gumbel, play
from mipoison.defenses.lpa.key_cells import KeyCells
from mipoison.defenses.lpa.penalized import (
    DRAWS,
    TABLE,
    Penalized,
    Weighed,
    require_reachable,
)
from mipoison.defenses.lpa.recovery import COMPONENTS, Recovery
from mipoison.defenses.lpa.some import some_of
from mipoison.defenses.storage import below
from mipoison.keys import Key
from mipoison.nn import RATE, Network
from mipoison.ops import banks, unchecked
from mipoison.ops.rows import label_of
from mipoison.ops.unchecked import Packed
from mipoison.ops.validation import as_part
from mipoison.progress import Progress
from mipoison.reference.choose_move import BITS, SHARES, Moves, weigh_moves
from mipoison.surrogate import Surrogate

# A row is compared with at most _SLOTS bank vectors of its label, of which the key leaves about _LEFT, or half of
# fewer.
_SLOTS: Final = 64
_LEFT: Final = 8
# In the game each row moves toward its nearest vector in _NEAREST subsets, each half of the last, and toward _RANDOM
# vectors.
_NEAREST: Final = 4
_RANDOM: Final = 3
# (The equilibrium's longer training of its adversaries, decision 23, has not been tried here.)
_ADVERSARIES: Final[dict[str, Any]] = {"width": 192, "epochs": (5, 2), "rate": RATE}
_NETWORK: Final = {"width": 128, "epochs": 20, "batch": 256}
# At most this many entries are weighed at a time.
_ENTRIES: Final = 1 << 20


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
    candidates_a_row: ClassVar[int] = 1 + (_NEAREST + _RANDOM) * len(SHARES)
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
        self._shape = (network.members, network.width, network.outputs)
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
            some = single[some_of(len(single), TABLE // (single.shape[1] * count), single.device)]
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
                Rules(error=error, **_ADVERSARIES),
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
        single, bank = as_dtype(p, torch.float32), self.bank
        place, share = banks.choose_move(
            single,
            bank.grouped,
            self._predicted(single),
            self.recovered,
            self._words(single, key),
            slots=bank.slots(_SLOTS),
            epsilon=epsilon,
            norm=norm,
            weight=self.penalty_weight,
            root=self.error == "root",
        )
        target, alone = banks.approach(p, bank.vectors, place, share)
        if not (in_memory(p) and int(alone) == 0):
            aside = _aside(p, label_of(p), self.budget)
            target = torch.where((place < 0).unsqueeze(1), aside, target)
        return unchecked.move(p, target, epsilon=epsilon, norm=norm, style="straight")

    def weigh(self, p: Tensor, *, key: Key, epsilon: float, norm: str) -> Weighed:
        """See `Penalized.weigh`."""
        made = list(self._moves(p, key, epsilon, norm))
        score = torch.cat([moves.score for moves in made])
        # Rows without a bank always spend the budget, which leaves less to the others.
        always = min(self.budget, epsilon)
        spent = torch.cat([moves.spent.masked_fill(moves.solitary, always) for moves in made])
        return Weighed(score, spent, torch.zeros_like(score))

    def _moves(self, p: Tensor, key: Key, epsilon: float, norm: str) -> Iterator[Moves]:
        """All moves of rows [N, K] in float32, for as many rows at a time as fit into a cache."""
        slots, root = self.bank.slots(_SLOTS), self.error == "root"
        height = max(1, _ENTRIES // (slots * max(p.shape[1], COMPONENTS)))
        given = (p, self._predicted(p), self._words(p, key))
        bank = self.bank.grouped
        for rows, predicted, words in zip(*(x.split(height) for x in given), strict=True):
            yield weigh_moves(
                rows, *bank, predicted, self.recovered, words, slots, epsilon, norm, root
            )

    def _predicted(self, p: Tensor) -> Tensor:
        """The clean surrogate's recovery from float32 rows, the adversaries' and their deviation."""
        return unchecked.recover(p, self._packed)

    @property
    def _packed(self) -> Packed:
        """The network; reading its shape anew would take as long as an operator."""
        return Packed(self.network.packed, *self._shape)

    def _words(self, p: Tensor, key: Key) -> Tensor:
        """Keyed words whose bits tell which vectors are left to each row, one bit for each halving; int64 [N, W]."""
        slots = self.bank.slots(_SLOTS)
        halvings = max(1, (slots // _LEFT).bit_length() - 1)
        return self.key_cells.words(p, halvings * -(-slots // BITS), key=key)

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
    place, distance = bank.others(p, _SLOTS)
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
            there = torch.where(torch.isinf(least), -1, place.gather(1, slot)).squeeze(1)
            for share in SHARES:
                shares = p.new_full((len(p),), share)
                target, _ = banks.approach(p, bank.vectors, there, shares)
                target = torch.where(without_bank, aside, target)
                answers.append(
                    unchecked.move(p, target, epsilon=epsilon, norm=norm, style="straight")
                )
        made.append(torch.stack(answers, 1))
    return torch.cat(made)


def _aside(p: Tensor, label: Tensor, budget: float) -> Tensor:
    """The answer to a row whose label has no other vector: a move by the budget toward `away`."""
    return unchecked.move(p, away(p, label), epsilon=budget, norm="l1", style="straight")
