"""Recognise people in reconstructions by the embeddings of a network that is given, not trained here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from mipoison.eval.data.splits import Role, Split

Embedding: TypeAlias = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Recognizer:
    """Takes a reconstruction for the class whose private rows lie nearest on average, in Euclidean distance.

    Attributes:
        embed: pixels ``[N, D]`` to embeddings ``[N, E]``.
        means: of each class's private rows, ``[classes, E]``.
        true: embeddings of the victims, ``[M, E]``.
        scale: mean squared distance between those of two different victims.
        accuracy: share of the victims' true images that it takes for their class.
    """

    embed: Embedding
    means: Tensor
    true: Tensor
    scale: float
    accuracy: float

    @classmethod
    def of(cls, embed: Embedding, parts: Split) -> Recognizer:
        """Embeds the private rows, without altered copies, and the victims.

        Args:
            embed: pixels ``[N, D]`` to embeddings ``[N, E]``, see `own.embedding`.
            parts: the data by role; its rows have classes.
        """
        private = parts.private
        # Copies stand behind what they are copies of.
        first = torch.ones(len(private), dtype=torch.bool)
        first[1:] = private.rows[1:] != private.rows[:-1]
        known = private.where(first)
        embedded = embed(known.inputs).double()
        means = torch.stack(
            [embedded[known.labels == label].mean(0) for label in range(parts.classes)]
        )
        true = embed(parts.victims.inputs).double()
        right = _nearest(true, means) == parts.victims.labels
        scale = 2 * float(true.var(0).sum())
        return cls(embed, means, true, scale, float(right.double().mean()))

    def judge(self, reconstructed: Tensor, victims: Role) -> dict[str, float]:
        """How much of the victims is recognised, as `victims.Evaluator.judge` says it.

        Args:
            reconstructed: ``[M, D]``, pixels in [0, 1].
            victims: the rows behind them.
        """
        seen = self.embed(reconstructed.clamp(0.0, 1.0)).double()
        right = _nearest(seen, self.means) == victims.labels
        apart = (seen - self.true).square().sum(1).mean()
        return {
            "identity": float(right.double().mean()),
            "feature_distance": float(apart) / self.scale,
        }


def _nearest(embedded: Tensor, means: Tensor) -> Tensor:
    # (A class without private rows has no mean, and is nearest to nobody.)
    return torch.cdist(embedded, means).nan_to_num(torch.inf).argmin(1)
