"""Where each protocol has its vectors; everything else in the document is dropped unless it is listed.

The document that goes out is built anew from the vectors' place, so that a field that nobody thought of cannot carry
undefended scores: logits, embeddings, the scores under another name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mipoison.serve.config.settings import Answers
from mipoison.serve.documents import paths
from mipoison.serve.documents.paths import EACH, Step
from mipoison.serve.documents.v2 import V2
from mipoison.serve.documents.vectors import (
    Answered,
    Array,
    Found,
    Protocol,
    Slot,
    name_of,
    slot_of,
)
from mipoison.serve.failures import Refused


class Path(Protocol):
    """Vectors at a path, or at the first of several that the document has."""

    def candidates(self, document: Any) -> Sequence[tuple[Step, ...]]:
        """Where the vectors may be."""
        return [paths.parse(self.answers.path or "")]

    def read(self, document: Any) -> Found:
        """See `Protocol.read`."""
        for steps in self.candidates(document):
            return _Reader(self.answers, steps).read(document)
        raise AssertionError("a protocol has candidates")


class TorchServe(Path):
    """The whole body: a vector or a list of vectors, of numbers or of {label: score}."""

    def candidates(self, document: Any) -> Sequence[tuple[Step, ...]]:
        """See `Path.candidates`."""
        return [()]


class MLflow(Path):
    """`{"predictions": rows}`, where a row is a list, a record, or an object with a named output."""

    keys: tuple[str, ...] = ("predictions",)

    def candidates(self, document: Any) -> Sequence[tuple[Step, ...]]:
        """See `Path.candidates`."""
        key = next(
            (key for key in self.keys if isinstance(document, dict) and key in document), None
        )
        if key is None:
            raise Refused(
                "upstream_document",
                f"expected an object with {' or '.join(self.keys)} from the upstream, got {name_of(document)} without",
            )
        inside, name = document[key], self.answers.output
        if name is None:
            return [(key,)]
        if isinstance(inside, dict):
            return [(key, name)]
        if isinstance(inside, list) and inside and isinstance(inside[0], dict):
            return [(key, EACH, name)]
        # A single output has no name.
        return [(key,)]


class TFServing(MLflow):
    """`{"predictions": rows}`, or `{"outputs": columns}`."""

    keys = ("predictions", "outputs")

    def candidates(self, document: Any) -> Sequence[tuple[Step, ...]]:
        """See `Path.candidates`."""
        if isinstance(document, dict) and set(self.keys) <= set(document):
            raise Refused(
                "upstream_document",
                "expected one of predictions and outputs from the upstream, got both",
            )
        return super().candidates(document)


class _Reader:
    """Copies the way to the vectors, and what is listed beside it, and remembers their places."""

    def __init__(self, answers: Answers, steps: tuple[Step, ...]) -> None:
        self.answers = answers
        self.steps = steps
        self.where = paths.shown(steps)
        self.rows: list[Array] = []
        self.places: list[tuple[Any, Any, Slot]] = []
        self.dropped = 0

    def read(self, document: Any) -> Found:
        top: list[Any] = [None]
        self._copy(document, 0, top, 0)
        rows = [rows for rows in self.rows if len(rows)]
        if len({part.shape[1] for part in rows}) > 1:
            raise Refused(
                "upstream_document",
                f"expected vectors of one length at {self.where}, got several lengths",
            )

        def write(answered: Answered) -> Any:
            start = 0
            for holder, key, slot in self.places:
                holder[key] = slot.fill(answered.part(start, start + slot.count))
                start += slot.count
            return top[0]

        found = np.concatenate(rows) if rows else np.empty((0, 0))
        return Found(found, write, self.dropped)

    def _copy(self, value: Any, at: int, holder: Any, key: Any) -> None:
        """Puts what goes out of a value into holder[key]."""
        if at == len(self.steps):
            rows, slot = slot_of(value, self.answers.labels, self.where)
            self.rows.append(rows)
            self.places.append((holder, key, slot))
            return
        step = self.steps[at]
        if isinstance(step, int):
            if not isinstance(value, list):
                raise self._other("a list", at, value)
            holder[key] = [None] * len(value)
            for i, entry in enumerate(value):
                self._copy(entry, at + 1, holder[key], i)
            return
        if not isinstance(value, dict):
            raise self._other("an object", at, value)
        if step not in value:
            raise Refused(
                "upstream_document",
                f"expected {paths.shown(self.steps[: at + 1])} in the answer, got none",
            )
        kept = {name: value[name] for name in self.answers.pass_fields if name in value}
        holder[key] = {**kept, step: None}
        self.dropped += len(value) - len(holder[key])
        self._copy(value[step], at + 1, holder[key], step)

    def _other(self, expected: str, at: int, got: Any) -> Refused:
        return Refused(
            "upstream_document",
            f"expected {expected} at {paths.shown(self.steps[:at])}, got {name_of(got)}",
        )


def protocol_of(answers: Answers) -> Protocol:
    """The protocol that the settings name."""
    kinds: dict[str, type[Protocol]] = {
        "v2": V2,
        "tfserving": TFServing,
        "mlflow": MLflow,
        "torchserve": TorchServe,
        "path": Path,
    }
    return kinds[answers.protocol](answers)
