"""Defend the record batches of one schema, one after another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import pyarrow as pa

from mipoison.defenses import Defense, Deferred
from mipoison.defenses.wire import on_the_wire, require_wire
from mipoison.integrations.arrow.columns import (
    answered,
    column_of,
    empty_column,
    holds_floats,
    ids_of,
    require_numbers,
    require_vectors,
    rows_of,
    stacked,
)
from mipoison.ops.validation import as_part

Names: TypeAlias = "str | Sequence[str]"


class Batches:
    """Defends batches of a schema: the vectors are replaced, and every other column stays as it is.

    Args:
        schema: of the batches.
        defense: see `defend`, as are the other arguments.
        column: of lists, or the columns of the classes.
        decimals: of the answers.
        ids: a column.
        drop: columns.
        keep: columns.

    Attributes:
        schema: of the answers.
        vectors: names of the columns of vectors.

    Raises:
        TypeError: for a wrong defense, or columns of wrong types.
        ValueError: for columns that are not there, or others that may hold undefended vectors.
    """

    def __init__(
        self,
        schema: pa.Schema,
        defense: Defense | Deferred,
        *,
        column: Names = "p",
        decimals: int | None = None,
        ids: str | None = None,
        drop: Names = (),
        keep: Names = (),
    ) -> None:
        if not isinstance(defense, Deferred):
            as_part("defense", defense, Defense, "mp.LPA.fit")  # type: ignore[type-abstract]
        self._defense = defense
        self._decimals, _ = require_wire(defense, decimals, None)
        self._lists = isinstance(column, str)
        self.vectors, drop, keep = as_names(column), as_names(drop), as_names(keep)
        _require_columns(schema, self.vectors, drop, keep, () if ids is None else (ids,))
        self._at = [schema.get_field_index(name) for name in self.vectors]
        self._ids = ids
        self._ids_at = None if ids is None else schema.get_field_index(ids)
        for i in self._at:
            (require_vectors if self._lists else require_numbers)(schema[i].name, schema[i].type)
        if any(schema[i].type != schema[self._at[0]].type for i in self._at):
            raise TypeError(
                f"expected columns of one type, got {schema[self._at[0]].type} and others in "
                f"{', '.join(self.vectors)}; cast them"
            )
        require_no_others(schema, self.vectors, drop, keep)
        self._kept = [i for i, field in enumerate(schema) if field.name not in drop]
        fields = {
            i: schema[i].with_type(answered(schema[i].type, self._decimals)) for i in self._at
        }
        self.schema = pa.schema(
            [fields.get(i, schema[i]) for i in self._kept], metadata=schema.metadata
        )
        self._types = {i: field.type for i, field in fields.items()}
        # K of the batches so far: a defense that was not fitted takes any.
        self._k: int | None = None

    def __call__(self, batch: pa.RecordBatch, first: int = 0) -> pa.RecordBatch:
        """Answers a batch.

        Args:
            batch: of the schema.
            first: number of its first row in what it belongs to, for messages.

        Raises:
            ValueError: for rows that cannot be defended; they are named.
        """
        columns = dict(enumerate(batch.columns))
        if batch.num_rows == 0:
            columns |= {i: empty_column(kind) for i, kind in self._types.items()}
        else:
            try:
                columns |= self._answers(batch)
            except ValueError as error:
                if first == 0:
                    raise
                raise ValueError(f"{error} (rows are counted from row {first})") from error
        return pa.RecordBatch.from_arrays([columns[i] for i in self._kept], schema=self.schema)

    def _answers(self, batch: pa.RecordBatch) -> dict[int, pa.Array]:
        """The defended columns, by their place."""
        vectors = [batch.column(i) for i in self._at]
        p = rows_of(self.vectors[0], vectors[0]) if self._lists else stacked(self.vectors, vectors)
        k = self._k = self._k or p.shape[1]
        if p.shape[1] != k:
            raise ValueError(
                f"expected vectors of K={k} entries, as in the batches before, got K={p.shape[1]}"
            )
        ids: Any = None
        if self._ids is not None:
            ids = ids_of(self._ids, batch.column(self._ids_at))
        q: Any = on_the_wire(self._defense, p, decimals=self._decimals, ids=ids)
        if self._lists:
            return {self._at[0]: column_of(q, self._types[self._at[0]])}
        # (Each row of the transpose is a column of its own.)
        by_class = q.t().contiguous().numpy()
        return {i: pa.array(entries) for i, entries in zip(self._at, by_class, strict=True)}


def as_names(names: Any) -> tuple[str, ...]:
    """The names of columns.

    Raises:
        TypeError: if they are no texts.
    """
    given = (names,) if isinstance(names, str) else names
    if not isinstance(given, list | tuple) or not all(isinstance(name, str) for name in given):
        raise TypeError(f"expected the name of a column, or a list of names, got {names!r}")
    return tuple(given)


def require_no_others(
    schema: pa.Schema, vectors: tuple[str, ...], drop: tuple[str, ...], keep: tuple[str, ...]
) -> None:
    """Raises ValueError for further columns that may hold undefended vectors, or logits, or embeddings."""
    named = {*vectors, *drop, *keep}
    others = [
        field.name for field in schema if field.name not in named and holds_floats(field.type)
    ]
    if others:
        raise ValueError(
            f"expected no further columns of several fractions a row, got {', '.join(others)}: they would leave as "
            "they are, and may hold undefended vectors, logits or embeddings; leave them out (drop), or say that they "
            "hold nothing of the kind (keep)"
        )


def _require_columns(schema: pa.Schema, vectors: tuple[str, ...], *others: tuple[str, ...]) -> None:
    """Raises ValueError for a name that is not that of one column, or stands for several purposes."""
    named = [*vectors, *(name for names in others for name in names)]
    for name in named:
        count = len(schema.get_all_field_indices(name))
        if count != 1:
            had = ", ".join(schema.names[:20]) or "none"
            raise ValueError(f"expected one column {name!r}, got {count}; the columns are {had}")
    if not vectors:
        raise ValueError("expected the name of a column, got none")
    if len(set(vectors)) < len(vectors):
        raise ValueError(f"expected each column of the classes once, got {', '.join(vectors)}")
    if both := {*vectors} & {name for names in others for name in names}:
        raise ValueError(
            f"expected drop, keep and ids to name other columns than the vectors, got {', '.join(sorted(both))}"
        )
