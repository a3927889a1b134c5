"""Equilibrium: solves the bi-level problem of data poisoning as a game, with a penalty on the move."""

from __future__ import annotations

from typing import Any, ClassVar, Final

import torch
from torch import Tensor
from torch.nn import functional as F

from mipoison.defenses.bank import Bank
from mipoison.defenses.clean import as_dtype, in_memory
from mipoison.defenses.lpa.candidates import Candidates
from mipoison.defenses.lpa.game import (
    Rules,
    Table,
    bisect_penalty_weight,
    choose,
    gumbel,
    play,
)
from mipoison.defenses.lpa.key_cells import KeyCells
from mipoison.defenses.lpa.penalized import (
    DRAWS,
    ROUNDING,
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
from mipoison.ops import unchecked
from mipoison.ops.validation import as_part
from mipoison.progress import Progress
from mipoison.surrogate import Surrogate

# Twice these widths protect no better (decision 21).
_SURROGATE: Final = {"width": 128}
# At the rate of other networks the scorer lags far behind the adversaries that it stands for (decision 23).
_RATE: Final = 6 * RATE
_GUIDE: Final = {"width": 32, "batch": 256, "rate": _RATE}
_SCORER: Final = {"width": 64, "batch": 256, "rate": _RATE}
# The fewest passes of guide and scorer, and how many rows they see in all passes together where that makes more.
_GUIDED: Final = 8, 1 << 19
_SCORED: Final = 12, 3 << 18
_MOST_PASSES: Final = 20
# At most this many entries of candidates are weighed at a time: more would allocate new memory at every step.
_ENTRIES: Final = 1 << 21


class Equilibrium(Penalized):
    """Maximises the error of adversaries who train on the answers, less a penalty on the move.

    δ* = argmax_δ L(I*; clean pairs) − λ(‖δ‖₁ + ‖δ‖₁²) subject to I* = argmin_I L(I; poisoned pairs). Fitting plays
    rounds of both sides (`game`). Serving scores the row's keyed `candidates` by one small network, distilled from the
    adversaries of all rounds, and takes the best. A row stays where no move is worth its penalty.

    Args:
        candidates: makes the keyed candidates.
        scorer: predicts the mean and the spread of the adversaries' recovery from an answer.
        penalty_weight: λ.
        error: "root" or "squared" error of the adversaries.
        sharpness: how sharply the best candidate is preferred.
    """

    name: ClassVar[str] = "equilibrium"
    candidates_a_row: ClassVar[int] = Candidates.COUNT

    def __init__(
        self,
        candidates: Candidates,
        scorer: Network,
        *,
        penalty_weight: float,
        error: str,
        sharpness: float,
    ) -> None:
        super().__init__()
        self.candidates = as_part("candidates", candidates, Candidates, "mp.LPA.fit")
        self.key_cells = candidates.key_cells
        self.scorer = as_part("scorer", scorer, Network, "mp.LPA.fit")
        self.penalty_weight = penalty_weight
        self.error = error
        self.sharpness = sharpness

    @property
    def budget(self) -> float:
        """The budget of the candidates."""
        return self.candidates.budget

    @budget.setter
    def budget(self, value: float) -> None:
        self.candidates.budget = value

    @property
    def classes(self) -> int:
        """K of the bank."""
        return self.candidates.bank.vectors.shape[1]

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
        rules: Rules | None = None,
    ) -> Equilibrium:
        """Plays the game on the defender's rows [N, K] and their inputs, by default rules or others."""
        rules = Rules(error=error) if rules is None else rules
        part = progress.part(0.0, 0.1)
        surrogate = Surrogate.fit(rows, inputs, **_SURROGATE, seed=seed, progress=part)
        single = as_dtype(rows, torch.float32)
        with torch.inference_mode(False), torch.no_grad():
            single = single.clone()
            bank = Bank(single)
            # With many rows and classes, a share of the rows fills the table.
            most = TABLE // (single.shape[1] * Candidates.COUNT)
            single = single[some_of(len(single), most, single.device)]
            candidates = Candidates(
                bank, None, budget=budget, key_cells=KeyCells.of(single), without=rules.without
            )
            draws = max(1, min(DRAWS, TABLE // (single.numel() * candidates.COUNT)))
            keys = [Key.public(b"equilibrium %d %d" % (seed, i)) for i in range(draws)]

            # 1. The guide, a small network in place of the surrogate, trained on the rows and their candidates.
            around = [
                candidates.make(single, key=key, epsilon=epsilon, norm=norm)[0] for key in keys
            ]
            places = torch.cat([single, *(c.reshape(-1, c.shape[-1]) for c in around)])
            recovered = surrogate(places)
            clean = recovered[: len(single)]
            recovery = Recovery.of(recovered, clean, single)
            guide = Network.fit(
                places,
                recovery.reduced(recovered),
                seed=seed,
                progress=progress.part(0.1, 0.3),
                epochs=_passes(len(places), *_GUIDED),
                **_GUIDE,
            )
            candidates.follow(guide)

            # 2. The game.
            made = [
                candidates.make(single, key=key, epsilon=epsilon, norm=norm, moves=moves)
                for key, moves in zip(keys, around, strict=True)
            ]
            answers = torch.cat([answer for answer, _ in made])
            noise = gumbel(torch.cat([words for _, words in made]))
            everyone = single.repeat(draws, 1)
            moved = (answers - everyone.unsqueeze(1)).abs().sum(-1)
            require_reachable(float(moved.amax(1).double().mean()), budget, epsilon)
            # The adversaries learn no more than the scorer can tell apart.
            table = Table(answers, moved, recovery.reduced(clean).repeat(draws, 1), noise)
            mean, deviation = play(
                table,
                rules,
                budget=budget,
                spread=1.0,
                seed=seed,
                progress=progress.part(0.3, 0.7),
            )

            # 3. The scorer, one network in place of all adversaries.
            scorer = Network.fit(
                answers.flatten(0, 1),
                torch.cat((mean, deviation.sqrt().unsqueeze(-1)), -1).flatten(0, 1),
                seed=seed + 1,
                progress=progress.part(0.7, 0.95),
                epochs=_passes(answers.shape[:2].numel(), *_SCORED),
                **_SCORER,
            )
            fitted = cls(
                candidates, scorer, penalty_weight=0.0, error=rules.error, sharpness=rules.sharpness
            )
            # Under the game's keys, whose answers the adversaries have trained on: answers under other keys say less
            # about what fresh rows will spend.
            score = fitted._confined(everyone, fitted._score(everyone, answers), moved)
            fitted.penalty_weight = bisect_penalty_weight(
                score, moved, noise, budget, fitted.sharpness
            )
        return fitted

    def _score(self, p: Tensor, answers: Tensor) -> Tensor:
        """The adversaries' error on each answer [N, C, K] to rows [N, K]: [N, C]."""
        guide = self.candidates.guide
        assert guide is not None
        # The deviation is to be near zero, as the recovery is to be near that from the row.
        clean = F.pad(unchecked.recover(p, guide)[:, :COMPONENTS], (0, 1))
        distance = unchecked.distances(answers, clean, self.scorer)
        return distance if self.error == "root" else distance.square()

    def with_bank(self, vectors: Tensor) -> Equilibrium:
        """See `Penalized.with_bank`."""
        old = self.candidates
        candidates = Candidates(
            Bank(vectors),
            old.guide,
            budget=old.budget,
            key_cells=old.key_cells,
            without=old.without,
        )
        how = {name: getattr(self, name) for name in ("penalty_weight", "error", "sharpness")}
        return Equilibrium(candidates, self.scorer, **how)

    def poison(self, p: Tensor, *, key: Key, epsilon: float, norm: str) -> Tensor:
        """See `Objective.poison`."""
        rows = max(1, _ENTRIES // (Candidates.COUNT * p.shape[1]))
        return torch.cat([self._choose(part, key, epsilon, norm) for part in p.split(rows)])

    def weigh(self, p: Tensor, *, key: Key, epsilon: float, norm: str) -> Weighed:
        """See `Penalized.weigh`."""
        return self._weigh(p, key, epsilon, norm)[1]

    def _choose(self, p: Tensor, key: Key, epsilon: float, norm: str) -> Tensor:
        answers, weighed = self._weigh(p, key, epsilon, norm)
        index = choose(*weighed, self.penalty_weight, self.sharpness)
        return answers[torch.arange(len(p), device=p.device), index]

    def _weigh(self, p: Tensor, key: Key, epsilon: float, norm: str) -> tuple[Tensor, Weighed]:
        """Candidates [N, C, K] and their scores."""
        answers, words = self.candidates.make(p, key=key, epsilon=epsilon, norm=norm)
        single = p.to(torch.float32)
        score = self._score(single, answers.to(torch.float32))
        moved = (answers - p.unsqueeze(1)).abs().sum(-1).to(torch.float32)
        return answers, Weighed(self._confined(single, score, moved), moved, gumbel(words))

    def _confined(self, p: Tensor, score: Tensor, moved: Tensor) -> Tensor:
        """The scores of answers [N, C] that move so far; all but the moves by the budget excluded for solitary rows.

        A solitary row is one whose label has no other bank vector. Its answers are unlike all that the game has seen,
        so their scores say little: they would choose the longest. So would those of a row whose scores overflow. Where
        no move is as long as the budget, such a row takes its longest.
        """
        overflown = ~score.sum(1).isfinite()
        solitary = self.candidates.bank.solitary(p) | overflown
        if in_memory(p) and not bool(solitary.any()):
            return score
        score = torch.where(overflown.unsqueeze(1), 0.0, score)
        least = moved.amax(1, keepdim=True).clamp_max(self.budget) * (1 - ROUNDING)
        enough = moved.masked_fill(moved < least, torch.inf).amin(1, keepdim=True)
        other = (moved < enough) | (moved > enough * (1 + ROUNDING))
        return score.masked_fill(solitary.unsqueeze(1) & other, -torch.inf)

    def settings(self) -> dict[str, Any]:
        """See `Objective.settings`."""
        more = {"sharpness": self.sharpness, "without": list(self.candidates.without)}
        return super().settings() | more

    @classmethod
    def restore(cls, settings: dict[str, Any], tensors: dict[str, Tensor]) -> Equilibrium:
        """See `Objective.restore`."""
        bank = Bank(tensors["candidates.bank.vectors"])
        guide = Network(below("candidates.guide", tensors))
        made = {name: settings[name] for name in ("budget", "without")}
        made["key_cells"] = KeyCells(settings["grid"], settings["temperature"])
        chosen = {name: settings[name] for name in ("penalty_weight", "error", "sharpness")}
        return cls(Candidates(bank, guide, **made), Network(below("scorer", tensors)), **chosen)


def _passes(rows: int, fewest: int, seen: int) -> int:
    """How often to pass over so many rows: few rows more often, until so many are seen."""
    return max(fewest, min(_MOST_PASSES, seen // rows))
