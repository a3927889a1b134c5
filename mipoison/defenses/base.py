"""What every defense shares: the edge where rows come in, and failing closed."""

from __future__ import annotations

import copy
from abc import abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mipoison.ops.answers import Rows, like
from mipoison.ops.identity import Ids, RequestKey, as_requests
from mipoison.ops.validation import as_choice, as_rows, require_probabilities
from mipoison.random import Key
from mipoison.reference import label_of, valid_rows
from mipoison.reference.rounding import finish, renormalise, safe_answer


def clean_rows(p: Tensor, valid: Tensor) -> Tensor:
    """The rows renormalised, once and for all, in float32 (float64 stays), each label kept strictly.

    Tolerances are for what comes in: behind this edge every row sums to one, so no operation can refuse it.

    Args:
        p: outputs, [N, K].
        valid: the rows that are probability vectors, bool [N]; the others become uniform rows.

    Returns:
        [N, K], float32 or float64.
    """
    dtype = torch.float64 if p.dtype == torch.float64 else torch.float32
    return _rounded(renormalise(p, valid), dtype, label_of(p))


def own_rows(outputs: Any) -> Tensor:
    """The defender's outputs as a defense is fitted on them: checked, without gradient, clean.

    Raises:
        TypeError: for a wrong kind or dtype.
        ValueError: for a wrong shape, or rows that are no probability vectors.
    """
    rows = as_rows("outputs", outputs).detach()
    require_probabilities("outputs", rows)
    return clean_rows(rows, torch.ones_like(rows[:, 0], dtype=torch.bool))


def as_dtype(q: Tensor, dtype: torch.dtype, label: Tensor | None = None) -> Tensor:
    """Rows rounded to the dtype without losing their label to a tie."""
    if q.dtype == dtype:
        return q
    return _rounded(q.to(torch.float64), dtype, label_of(q) if label is None else label)


def _rounded(q: Tensor, dtype: torch.dtype, label: Tensor) -> Tensor:
    """float64 rows in the dtype, the label strict."""
    return finish(q, label, torch.zeros_like(q[:, 0]), dtype)


def unrecorded() -> AbstractContextManager[None]:
    """Without gradient, and never one such region in another: torch.export cannot write that to a file.

    An exported program has none at all. What goes in is detached in any case.
    """
    if torch.compiler.is_exporting() or not torch.is_grad_enabled():
        return nullcontext()
    return torch.no_grad()


class Defense(nn.Module):
    """A map from outputs to outputs, row by row; subclasses write `answer`.

    Args:
        on_invalid: what happens to a row that is no probability vector. "raise": `ValueError`
            naming the first ones. "label": the row is answered with its label alone (one-hot;
            uniform where it holds NaN or Inf) and counted in `failures`. No setting lets the row
            itself out.

    Attributes:
        name: how the defense is called in reports.
        failures: rows answered by "label" so far.
    """

    name: ClassVar[str]
    # The secret of a keyed defense.
    _key: Key | None = None

    def __init__(self, *, on_invalid: str = "raise") -> None:
        super().__init__()
        self.on_invalid = as_choice("on_invalid", on_invalid, ("raise", "label"))
        self.failures = 0

    @property
    def classes(self) -> int | None:
        """K of the data it was fitted on; None where any K will do."""
        return None

    @abstractmethod
    def answer(self, p: Tensor) -> Tensor:
        """Defends clean rows (see `clean_rows`): [N, K] → [N, K] of the same dtype, float32 or float64."""

    def forward(self, outputs: Rows, *, ids: Ids = None, validate: bool = True) -> Rows:
        """Defends a batch of outputs.

        Args:
            outputs: confidence vectors, [N, K]; float32, float64, float16 or bfloat16; tensor or
                ndarray.
            ids: identities of the requests, one a row: N ints (64 bits), bytes or str. Whatever is
                keyed then derives from (key, id) instead of (key, row). The same row under the same
                id gets the same answer; under another id it gets another, which can be averaged:
                ids are for what a client cannot choose, such as an account, so that two accounts
                see different answers. A keyless defense answers alike under all ids.
            validate: False raises for nothing that the rows hold, counts nothing and reads nothing
                back, so that graphs can be captured: invalid rows get the answer of
                on_invalid="label".

        Returns:
            the defended rows, [N, K] of the same kind and dtype, without gradient.

        Raises:
            TypeError: for a wrong kind or dtype.
            ValueError: for a wrong shape or, with on_invalid="raise", rows that are no probability
                vectors.
            RuntimeError: under torch.export, if the defense has a key.
        """
        if self._key is not None and torch.compiler.is_exporting():
            raise RuntimeError(
                f"expected a defense without a key under torch.export, got {self.name}: the exported program "
                "would hold the key; export the model alone and defend its answers where they are served"
            )
        p = as_rows("outputs", outputs).detach()
        if self.classes is not None and p.shape[1] != self.classes:
            raise ValueError(
                f"expected outputs with K={self.classes} classes, as fitted, got K={p.shape[1]}"
            )
        acting = self if ids is None else self._under(ids, p)
        if not validate:
            return like(acting._unread(p), outputs)
        with torch.no_grad():
            valid = valid_rows(p)
            all_valid = bool(valid.all())
            if self.on_invalid == "raise" and not all_valid:
                require_probabilities("outputs", p)
            answered = as_dtype(acting.answer(clean_rows(p, valid)), p.dtype)
            if all_valid:
                return like(answered, outputs)
            self.failures += int((~valid).sum())
            safe = safe_answer(p, label_of(p), p.dtype)
            return like(torch.where(valid.unsqueeze(-1), answered, safe), outputs)

    def _unread(self, p: Tensor) -> Tensor:
        """Answers without reading anything back: [N, K] of p's dtype."""
        with unrecorded():
            valid = valid_rows(p)
            answered = as_dtype(self.answer(clean_rows(p, valid)), p.dtype)
            return torch.where(valid.unsqueeze(-1), answered, safe_answer(p, label_of(p), p.dtype))

    def _under(self, ids: Ids, p: Tensor) -> Defense:
        """This defense with its key bound to the ids; it shares everything else."""
        acting = copy.copy(self)
        if self._key is None:
            as_requests(ids, p)
        else:
            acting._key = RequestKey(self._key, as_requests(ids, p))
        return acting

    def __call__(self, outputs: Any, **options: Any) -> Any:
        """Defends a batch of outputs; see `forward`."""
        return super().__call__(outputs, **options)
