"""Base of baselines that change entries one by one: makes a probability vector of the row's label of the result."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from mipoison import ops
from mipoison.defenses.base import Defense
from mipoison.defenses.clean import as_dtype
from mipoison.ops.rows import label_of
from mipoison.reference.rounding import at, put


class Reshaped(Defense):
    """Divides reshaped entries by their sum and keeps the label; subclasses write `reshape`.

    Where another entry would win in the published form, the answer is the nearest vector in which
    the row's label wins.
    """

    @abstractmethod
    def reshape(self, p: Tensor, label: Tensor, given: Tensor) -> Tensor:
        """Entries ≥ 0 in place of the row's.

        Args:
            p: clean rows, float64 [N, K].
            label: their labels, int64 [N].
            given: the rows as given, in their dtype. Compare these with thresholds or with each other:
                renormalising can move an entry across by an ulp.

        Returns:
            float64 [N, K]; a row of zeros is answered with its label only.
        """

    def respond(self, p: Tensor, given: Tensor) -> Tensor:
        """See `Defense.respond`."""
        return self._reshaped(p, given)

    def answer(self, p: Tensor) -> Tensor:
        """See `Defense.answer`."""
        return self._reshaped(p, p)

    def _reshaped(self, p: Tensor, given: Tensor) -> Tensor:
        """Answers to clean rows, [N, K] of their dtype."""
        label = label_of(p)
        entries = self.reshape(p.to(torch.float64), label, given)
        total = entries.sum(-1, keepdim=True)
        one_hot = torch.zeros_like(entries).scatter(-1, label.unsqueeze(-1), 1.0)
        row = torch.where(total > 0, entries / total, one_hot)
        # No such row can be invalid, so the status is not read, and graphs can be captured.
        nearest = ops.project(row, label=label, validate=False)
        # Where the label leads, keep the row: the projection spreads the rounding error of the sum over zeros.
        leads = at(row, label) > put(row, label, -1.0).amax(-1)
        return as_dtype(torch.where(leads.unsqueeze(-1), row, nearest), p.dtype, label)
