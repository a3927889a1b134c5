"""What many baselines share: entries reshaped, then a probability vector of the row's own label again."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from mipoison import ops
from mipoison.defenses.base import Defense, as_dtype
from mipoison.reference import label_of
from mipoison.reference.rounding import at, put


class Reshaped(Defense):
    """Divides reshaped entries by their sum and keeps the label; subclasses write `reshape`.

    Where the published form lets another entry win, the row's own label does here: the answer is
    the nearest vector in which it wins.
    """

    @abstractmethod
    def reshape(self, p: Tensor, label: Tensor, given: Tensor) -> Tensor:
        """Entries ≥ 0 in place of the row's.

        Args:
            p: clean rows, float64 [N, K].
            label: their labels, int64 [N].
            given: the rows as they came, in their own dtype, for what is compared with a threshold
                or with each other: renormalising moves entries across either by an ulp.

        Returns:
            float64 [N, K]; a row of zeros is answered by its label alone.
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
        alone = torch.zeros_like(entries).scatter(-1, label.unsqueeze(-1), 1.0)
        row = torch.where(total > 0, entries / total, alone)
        # These rows cannot be refused; the count of refused ones is not read, so that graphs capture.
        nearest = ops.project(row, label=label, validate=False)
        # Where the label leads, zeros stay zeros: the projection spreads what the sum lacks for rounding.
        leads = at(row, label) > put(row, label, -1.0).amax(-1)
        return as_dtype(torch.where(leads.unsqueeze(-1), row, nearest), p.dtype, label)
