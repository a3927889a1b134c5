"""From the rows of the upstream to what goes out: checks of each request, the softmax, the defense, the last check."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import numpy as np
import torch

from mipoison.defenses.base import Defense
from mipoison.defenses.wire import TopK, on_the_wire, require_wire
from mipoison.reference import valid_rows
from mipoison.reference.rounding import SUM_TOLERANCE
from mipoison.serve.documents.vectors import Answered, Array
from mipoison.serve.failures import Refused
from mipoison.serve.meter import Drift

# float64 rows [N, K] and the identities of their requests → what goes out.
Answer: TypeAlias = "Callable[[Array, Sequence[str] | None], Answered]"
_SUM_TOLERANCE: Final = SUM_TOLERANCE[torch.float64]
_HALF_TOLERANCE: Final = SUM_TOLERANCE[torch.float16]
# Of sums and signs of what goes out, whose decimals are rounded.
_SLACK: Final = 1e-6
_LOG: Final = logging.getLogger("mipoison.serve")


class NotAnswered(RuntimeError):
    """What came out of the defense is no answer to the rows; another try would count them twice."""


class Prepare:
    """Probability vectors of one request's rows, checked before they share a batch with rows of others.

    Args:
        defense: what the rows are meant for.
        gives: what the upstream answers with, "probabilities" or "logits".
        temperature: of the softmax over logits.
        most: rows that one request may have.
    """

    def __init__(self, defense: Defense, *, gives: str, temperature: float, most: int) -> None:
        self.classes = defense.classes
        self.safe = defense.on_invalid == "label"
        self.gives = gives
        self.temperature = temperature
        self.most = most

    def __call__(self, rows: Array) -> Array:
        """The rows, or their softmax; float64 [N, K].

        Raises:
            Refused: if they are too many, of another K than the defense was fitted on, no probability vectors, or
                logits beyond float64 once they are divided.
        """
        n, k = rows.shape
        if n > self.most:
            raise Refused(
                "too_many_rows",
                f"expected at most {self.most} inputs in a request, got {n}; send them in several requests",
            )
        if self.classes is not None and k != self.classes:
            raise Refused(
                "upstream_classes",
                f"expected vectors of the K={self.classes} classes that the defense was fitted on, got K={k}",
            )
        p = torch.from_numpy(rows)
        if self.gives == "logits":
            scaled = p / self.temperature
            if not bool(torch.isfinite(scaled).all()):
                raise Refused(
                    "upstream_document",
                    "expected logits that [answers] temperature divides into finite numbers, got larger ones; raise it",
                )
            return torch.softmax(scaled, dim=-1).numpy()
        bad = n - int(valid_rows(p).sum())
        if bad and not self.safe:
            raise Refused(
                "upstream_not_probabilities",
                f"expected probability vectors (>= 0, sum 1 within {_SUM_TOLERANCE:g}, or {_HALF_TOLERANCE:g} in FP16 "
                f"and BF16) from the upstream, got {bad} of {n} rows otherwise; logits need [answers] gives = "
                '"logits", and an answer cut to the top k, or rounded, cannot be defended',
            )
        return rows


class Defend:
    """Defends a batch, checks what comes out, and measures how far it moved.

    Args:
        defense: a defense, or a meter around one.
        decimals: of what goes out; None for all digits.
        top_k: how many entries go out; None for all.
        moved: told the l1 moves of each batch's probability vectors, float64 [n], where all entries go out; 0 for a
            vector that was rounded, and moved no further. What it raises is logged, and changes no answer.
    """

    def __init__(
        self,
        defense: Defense,
        *,
        decimals: int | None,
        top_k: int | None,
        moved: Callable[[Array], None] = lambda _: None,
    ) -> None:
        self.defense = defense
        self.decimals = decimals
        self.top_k = top_k
        self.moved = moved

    def __call__(self, rows: Array, ids: Sequence[str] | None) -> Answered:
        """What goes out for the rows [N, K].

        Raises:
            Refused: if the defense meets a drift that it refuses, or decimals or top_k do not fit K.
            NotAnswered: if what comes out of the defense is no answer to these rows.
        """
        self._require_classes(rows.shape[1])
        answered = self._answered(rows, ids)
        _require_answer(answered, rows, self.top_k)
        if answered.classes is None:
            valid = valid_rows(torch.from_numpy(rows)).numpy()
            moves = np.abs(answered.values - rows)[valid]
            unit = 0.0 if self.decimals is None else 10.0**-self.decimals
            self._tell(np.where((moves < unit).all(axis=1), 0.0, moves.sum(axis=1)))
        return answered

    def _tell(self, moves: Array) -> None:
        try:
            self.moved(moves)
        except Exception:
            # The meter has counted these rows: an error here would have them defended, and counted, again.
            _LOG.exception("what counts moves raised")

    def _require_classes(self, k: int) -> None:
        """Checks what the start could not, where the defense knows no K."""
        if self.top_k is not None and self.top_k > k:
            raise Refused(
                "upstream_classes",
                f"expected vectors of {self.top_k} classes or more, as [answers] top_k says, got K={k}; lower it",
            )
        try:
            require_wire(self.defense, self.decimals, self.top_k, k)
        except ValueError:
            raise Refused(
                "upstream_classes",
                f"expected vectors that {self.decimals} decimals move by half of the defense's epsilon at most, got "
                f"vectors of K={k} classes, which move farther; raise [answers] decimals",
            ) from None

    def _answered(self, rows: Array, ids: Sequence[str] | None) -> Answered:
        try:
            wired = on_the_wire(
                self.defense,
                rows,
                decimals=self.decimals,
                top_k=self.top_k,
                ids=None if ids is None else list(ids),
            )
        except Drift:
            raise Refused(
                "drift",
                "expected vectors like those that the defense was fitted on, got a drift, on which it answers nothing; "
                "the operator fits it anew, or sets [defense] on_drift",
            ) from None
        if not isinstance(wired, TopK):
            return Answered(np.asarray(wired, dtype=np.float64))
        return Answered(
            np.asarray(wired.values, dtype=np.float64),
            np.asarray(wired.classes, dtype=np.int64),
            np.asarray(wired.rest, dtype=np.float64),
        )


def _require_answer(answered: Answered, rows: Array, top_k: int | None) -> None:
    """Raises NotAnswered unless this is an answer to so many rows, finite, >= 0, and of sum 1."""
    n, k = rows.shape
    values = answered.values
    width = k if top_k is None else min(top_k, k)
    shaped = values.shape == (n, width)
    total = values.sum(axis=1) if shaped else np.zeros(0)
    if top_k is not None:
        shaped = (
            shaped
            and answered.classes is not None
            and answered.rest is not None
            and answered.classes.shape == (n, width)
            and answered.rest.shape == (n,)
        )
        total = total + answered.rest if shaped and answered.rest is not None else total
    if not shaped or not (values >= 0).all() or not (np.abs(total - 1) <= _SLACK).all():
        raise NotAnswered(f"expected answers to {n} rows of K={k} from the defense, got others")
