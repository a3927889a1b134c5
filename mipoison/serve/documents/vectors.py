"""Vectors where they stand in a document: read as rows, and written back in the same form."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from mipoison.serve.config.settings import Answers
from mipoison.serve.failures import Refused

Array: TypeAlias = "npt.NDArray[np.float64]"
_NAMES: Final = {
    dict: "an object",
    list: "a list",
    str: "a text",
    bool: "true or false",
    type(None): "null",
}


@dataclass(frozen=True)
class Answered:
    """What goes out for some rows.

    Args:
        values: defended rows, [N, K]; or their k largest entries, [N, k], in falling order.
        classes: the classes of those entries, int64 [N, k]; None where all entries go out.
        rest: the sums of the other entries, [N]; likewise.
    """

    values: Array
    classes: npt.NDArray[np.int64] | None = None
    rest: Array | None = None

    def __len__(self) -> int:
        return len(self.values)

    def part(self, start: int, stop: int) -> Answered:
        """Rows of it."""
        if self.classes is None or self.rest is None:
            return Answered(self.values[start:stop])
        return Answered(self.values[start:stop], self.classes[start:stop], self.rest[start:stop])


def nothing(top_k: int | None) -> Answered:
    """The answer to no rows."""
    none = np.empty((0, 0))
    if top_k is None:
        return Answered(none)
    return Answered(none, np.empty((0, 0), dtype=np.int64), np.empty(0))


@dataclass(frozen=True)
class Found:
    """The vectors of a document.

    Args:
        rows: float64 [N, K]; [0, 0] where there is none.
        write: the document that goes out, from what is answered; to be called once.
        dropped: how many fields of the upstream's document are left out.
    """

    rows: Array
    write: Callable[[Answered], Any]
    dropped: int = 0


class Protocol(ABC):
    """Finds the vectors of a document.

    Args:
        answers: where they are, and what else may pass.
    """

    def __init__(self, answers: Answers) -> None:
        self.answers = answers

    @abstractmethod
    def read(self, document: Any) -> Found:
        """The vectors, and how to write the document that goes out.

        Raises:
            Refused: if the document is not of the protocol's form.
        """


@dataclass(frozen=True)
class Slot:
    """The form of the vectors in one place.

    Args:
        count: how many.
        single: one bare vector, not a list of vectors.
        labels: keys of vectors that are mappings; None for lists.
    """

    count: int
    single: bool
    labels: tuple[str, ...] | None

    def fill(self, answered: Answered) -> Any:
        """The vectors that go out, in this form; with top-k each is an object of values, classes and rest."""
        rows: list[Any] = answered.values.tolist()
        if answered.classes is not None and answered.rest is not None:
            rows = [
                {
                    "values": values,
                    "classes": classes
                    if self.labels is None
                    else [self.labels[i] for i in classes],
                    "rest": rest,
                }
                for values, classes, rest in zip(
                    rows, answered.classes.tolist(), answered.rest.tolist(), strict=True
                )
            ]
        elif self.labels is not None:
            rows = [dict(zip(self.labels, row, strict=True)) for row in rows]
        return rows[0] if self.single else rows


def slot_of(value: Any, labels: tuple[str, ...], where: str) -> tuple[Array, Slot]:
    """The rows [N, K] in a place, and their form.

    Args:
        value: a vector, or a list of vectors; each a list of numbers or, with labels, a mapping from label to number.
        labels: the classes in order, where vectors may be mappings.
        where: the place, for messages.

    Raises:
        Refused: for anything else.
    """
    single = isinstance(value, dict) or (
        isinstance(value, list) and len(value) > 0 and not isinstance(value[0], list | dict)
    )
    if not isinstance(value, list | dict):
        raise Refused("upstream_document", f"expected vectors at {where}, got {name_of(value)}")
    vectors: list[Any] = [value] if single else list(value)
    mapping = bool(vectors) and isinstance(vectors[0], dict)
    if mapping:
        vectors = [_ordered(vector, labels, where) for vector in vectors]
    return rows_of(vectors, where), Slot(len(vectors), single, labels if mapping else None)


def _ordered(vector: Any, labels: tuple[str, ...], where: str) -> list[Any]:
    """The scores of a mapping in the order of the labels, which the upstream's order of scores never sets."""
    if not labels:
        raise Refused(
            "upstream_document",
            f"expected lists of numbers at {where}, got an object; name its field with [answers] output or path, or "
            "list the classes in [answers] labels where it maps labels to scores",
        )
    if (
        not isinstance(vector, dict)
        or len(vector) != len(labels)
        or any(label not in vector for label in labels)
    ):
        raise Refused(
            "upstream_document",
            f"expected a score for each of the {len(labels)} labels at {where}, got others, more or fewer; a top-k "
            "answer cannot be defended, so let the model answer with all classes",
        )
    return [vector[label] for label in labels]


def rows_of(vectors: list[Any], where: str) -> Array:
    """Rows [N, K] of lists of numbers.

    Raises:
        Refused: if they are something else, or of several lengths, or K < 2.
    """
    if not vectors:
        return np.empty((0, 0))
    if not all(isinstance(vector, list) for vector in vectors):
        raise Refused(
            "upstream_document",
            f"expected every vector at {where} to be a list, got another kind among them",
        )
    lengths = {len(vector) for vector in vectors}
    if len(lengths) > 1:
        raise Refused(
            "upstream_document", f"expected vectors of one length at {where}, got several lengths"
        )
    return numbers([entry for vector in vectors for entry in vector], where).reshape(
        len(vectors), _classes(lengths.pop(), where)
    )


def _classes(k: int, where: str) -> int:
    if k < 2:
        raise Refused(
            "upstream_document",
            f"expected vectors of two classes or more at {where}, got {k}; answer [1 - x, x] in place of one "
            "probability x",
        )
    return k


def numbers(entries: list[Any], where: str) -> Array:
    """JSON numbers as float64 [n].

    Raises:
        Refused: for anything else among them, or numbers beyond float64.
    """
    kinds = set(map(type, entries)) - {int, float}
    if kinds:
        raise Refused(
            "upstream_document",
            f"expected numbers in the vectors at {where}, got {_NAMES.get(kinds.pop())}",
        )
    try:
        made = np.array(entries, dtype=np.float64)
    except OverflowError:
        made = np.array([np.inf])
    if not np.isfinite(made).all():
        raise Refused(
            "upstream_document",
            f"expected finite numbers in the vectors at {where}, got larger ones",
        )
    return made


def name_of(value: Any) -> str:
    """What kind of JSON value it is, for messages."""
    return _NAMES.get(type(value), "a number")
