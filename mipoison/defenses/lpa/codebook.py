"""Codebook: a few answers a label, so that what every adversary can learn is bounded by a certificate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Final

import torch
from torch import Tensor

from mipoison import ops
from mipoison.defenses.clean import as_dtype
from mipoison.defenses.lead import least_lead
from mipoison.defenses.lpa.aim import Aim
from mipoison.defenses.lpa.frontier import (
    FARTHEST,
    Frontier,
    limit_for_budget,
    limit_for_gain,
    within_reach,
)
from mipoison.defenses.lpa.objective import Objective
from mipoison.defenses.pieces import ROWS
from mipoison.ops.rows import label_of
from mipoison.ops.validation import as_flag, require_probabilities
from mipoison.progress import Progress
from mipoison.reference.rounding import lead

# Rounding of a codeword; a cast to bfloat16 takes less of a lead than `least_lead` adds, by more than this.
_SLACK: Final = 1e-5


class Codebook(Objective):
    """Answers with the codeword of the row's label that is nearest in l1.

    Fitting minimises the mean l1 plus a price times the variance of the inputs that the answers tell beyond the label.
    Rows of a label are clustered, and clusters merged as long as a merge adds less l1 than the price of what it hides.
    The price is set on rows that were kept out. Serving needs no network and no key.

    Args:
        codewords: for each label so many probability vectors of that label, float32 [K, M, K].
        keyed: whether the defense has a key all the same, because it was chosen in place of one that needs it.
    """

    name: ClassVar[str] = "codebook"
    may_stay: ClassVar[bool] = True
    epsilon: ClassVar[float] = FARTHEST
    piece: ClassVar[int] = ROWS
    keyed: bool = False
    codewords: Tensor

    def __init__(self, codewords: Tensor, *, keyed: bool = False) -> None:
        super().__init__()
        require_codewords(codewords)
        self.keyed = as_flag("keyed", keyed)
        self.register_buffer("codewords", codewords.clone())
        self._lead = _least_lead_in(codewords)

    def check_state(self, tensors: Mapping[str, Tensor]) -> None:
        """See `DtypeStable.check_state`."""
        require_codewords(tensors["codewords"])
        self._lead = _least_lead_in(tensors["codewords"])

    def check_margin(self, margin: float) -> None:
        """See `Objective.check_margin`."""
        needed = least_lead(margin)
        if self._lead < needed - _SLACK:
            raise ValueError(
                f"expected codewords whose label leads by {needed:.4g} for margin={margin:g}, got {self._lead:.4g}; "
                "fit them with that margin, or their answers would differ from row to row"
            )

    def leads(self, margin: float, epsilon: float) -> bool:
        """See `Defense.leads`: so do the codewords, and every row may move to its codeword."""
        needed = least_lead(margin)
        return needed < 1 and self._lead >= needed - _SLACK and epsilon >= FARTHEST

    @property
    def classes(self) -> int:
        """K of the codewords."""
        return self.codewords.shape[2]

    @classmethod
    def fit(
        cls,
        rows: Tensor,
        inputs: Tensor,
        groups: Tensor | None,
        aim: Aim,
        progress: Progress,
    ) -> Codebook:
        """Fits codewords on the defender's rows [N, K] and their inputs [N, ...].

        Args:
            rows: clean rows.
            inputs: what produced them.
            groups: int64 [N]: rows of one number are copies of one input.
            aim: with a budget, a gain to be certified, or neither: one codeword a label.
            progress: told how much is done.
        """
        single, x = as_dtype(rows, torch.float32), inputs.flatten(1).to(torch.float32)
        frontier = Frontier.of(single, x, aim, progress.part(0.0, 0.1))
        rest = progress.part(0.1, 1.0)
        limit, realised = math.inf, None
        if aim.certified is not None:
            limit = limit_for_gain(frontier, single, x, groups, aim, rest)
        elif aim.budget is not None:
            limit, realised = limit_for_budget(frontier, single, x, groups, aim, rest)
        book = cls(padded(frontier.codewords(limit)))
        book.realised = realised
        return book

    def poison(self, p: Tensor, *, key: None, epsilon: float, norm: str) -> Tensor:
        """See `Objective.poison`. A row that its codeword is out of reach of goes as far as it may."""
        target, _ = ops.quantize(p, self.codewords, validate=False)
        return within_reach(p, target, epsilon, norm)

    def settings(self) -> dict[str, Any]:
        """See `Objective.settings`."""
        return super().settings() | {"keyed": self.keyed}

    @classmethod
    def restore(cls, settings: dict[str, Any], tensors: dict[str, Tensor]) -> Codebook:
        """See `Objective.restore`."""
        return cls(tensors["codewords"], keyed=settings["keyed"])


def padded(codewords: list[Tensor]) -> Tensor:
    """Codewords of each label as [K, M, K]; labels with fewer repeat their first, which is chosen before its copies."""
    most = max(len(some) for some in codewords)
    return torch.stack(
        [torch.cat((some, some[:1].expand(most - len(some), -1))) for some in codewords]
    )


def _least_lead_in(codewords: Tensor) -> float:
    """By how much the label of a codeword leads at least."""
    words = codewords.flatten(0, 1).to(torch.float64)
    return float(lead(words, label_of(words)).min())


def require_codewords(codewords: Tensor, made_by: str = "mp.LPA.fit") -> None:
    """Raises unless there are codewords of each label, in their order.

    Args:
        codewords: float32 [K, M, K].
        made_by: what makes such ones, for the message.

    Raises:
        TypeError: for another dtype.
        ValueError: for another shape, rows that are no probability vectors, or other labels.
    """
    shape = tuple(codewords.shape)
    if codewords.ndim != 3 or shape[0] != shape[2] or shape[1] == 0:
        raise ValueError(f"expected codewords [K, M, K] with M ≥ 1, got {shape}; use {made_by}")
    if codewords.dtype != torch.float32:
        raise TypeError(f"expected codewords of float32, got {codewords.dtype}; use .float()")
    flat = codewords.flatten(0, 1)
    require_probabilities("codewords", flat)
    labels = torch.arange(shape[0], device=codewords.device).repeat_interleave(shape[1])
    if not torch.equal(label_of(flat), labels):
        raise ValueError(
            f"expected codewords of the labels 0 to K − 1 in turn, got others; use {made_by}"
        )
