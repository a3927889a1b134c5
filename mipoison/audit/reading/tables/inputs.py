"""Read inputs from a CSV or Parquet: people with numeric and categorical columns, or embeddings in a list column."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.types as kinds

from mipoison.audit.evidence import Skipped
from mipoison.audit.reading.found import FEWEST_ROWS, Array, Found, listed, require_known, row_names
from mipoison.audit.reading.options import Options
from mipoison.audit.reading.pairing import paired
from mipoison.audit.reading.tables.columns import (
    INDEX,
    PREFIX,
    class_names,
    is_list,
    is_text,
    keys_of,
    matrix,
    missing_in,
    vector_columns,
)
from mipoison.audit.reading.tables.files import is_number, read_table
from mipoison.audit.reading.vectors import COUNTED, Vectors, vectors_of

_BATCH: Final = 1024
# A column that lacks so many of its values is told.
_MANY: Final = 0.1


def read_people(file: Path, options: Options) -> Found:
    """What a table has.

    A table with a column of lists that is none of the vectors has embeddings, and its other columns are not looked at.
    Otherwise all columns are attributes but those of the vectors, the group, and those that are left out.

    Raises:
        ValueError: for columns that are not there, of a kind that is no attribute, or with infinite numbers.
    """
    notes: list[str] = []
    table, keep, count = read_table(file, options.missing, notes)
    known = table.column_names
    for option in ("categorical", "leave_out"):
        require_known(option, getattr(options, option), known, file.name)
    own, columns = _vectors(file, table, options)
    beside = own is not None and own.groups is not None and options.group not in known
    if options.group is not None and not beside:
        require_known("group", [options.group], known, file.name)
    attributes = _attributes(file, table, columns, options, notes)
    embedded = len(attributes) == 1 and is_list(table.schema.field(attributes[0]).type)
    _require_effect(file, columns, () if embedded else attributes, options)
    group = None if beside else options.group
    needed = [*attributes, *columns, *([group] if group else [])]
    rows = row_names(table.num_rows, keep)
    lacking = np.stack([missing_in(table.column(name)) for name in needed])
    whole, skipped = _complete(lacking, needed, rows)
    # (Of the attributes alone, which come first: vectors and groups cannot be left out.)
    shares = dict(zip(attributes, lacking.mean(1).tolist(), strict=False)) if len(rows) else {}
    _tell_gaps(file, shares, int(whole.sum()), notes)
    outputs = groups = None
    if own is not None:
        positions = np.arange(count) if keep is None else keep
        keys = {COUNTED: lambda: positions} | keys_of(table, ())
        places = paired(own, keys, count, keep, "rows", notes)
        skipped += [Skipped(rows[i], "no vector") for i in np.flatnonzero(whole & (places < 0))]
        whole &= places >= 0
        outputs = own.at(places[whole])
        groups = None if own.groups is None else own.groups[places[whole]]
    table = table.filter(pa.array(whole))
    names = [rows[i] for i in np.flatnonzero(whole)]
    if columns and table.num_rows:
        outputs = matrix(file, table, columns)
    inputs = matrix(file, table, attributes) if embedded else table.select(attributes)
    others = table.drop_columns(columns)

    def batches() -> Iterator[Any]:
        for first in range(0, table.num_rows, _BATCH):
            part = slice(first, first + _BATCH)
            yield inputs[part] if embedded else _frame(others.slice(first, _BATCH))

    return Found(
        "embeddings" if embedded else "table",
        inputs,
        names,
        batches,
        outputs=outputs,
        groups=groups if group is None else _texts(table.column(group)),
        classes=own.classes if own is not None else class_names(columns, options.vectors_prefix),
        called=f"{file.name}: {attributes[0]}" if embedded else file.name,
        vectors_called=own.called if own is not None else f"{file.name}: {listed(columns)}",
        logits=(own is not None and own.logits) or columns == ["logits"],
        skipped=skipped,
        notes=notes,
    )


def _require_effect(
    file: Path, vectors: Sequence[str], attributes: Sequence[str], options: Options
) -> None:
    """Raises ValueError for a column of the vectors that an option takes for another, or a category that is none."""
    given = {
        "group": (options.group,),
        "leave_out": options.leave_out,
        "inputs_name": (options.inputs_name,),
    }
    for option, names in given.items():
        if wrong := [name for name in names if name in vectors]:
            raise ValueError(
                f"{option}: expected a column of {file.name} beside the vectors, got {wrong[0]}, which is of them; "
                "name another, or leave it out"
            )
    if wrong := [name for name in options.categorical if name not in attributes]:
        raise ValueError(
            f"categorical: expected attributes of {file.name}, {listed(attributes)}, got {wrong[0]}; leave it out"
        )


def _vectors(file: Path, table: Any, options: Options) -> tuple[Vectors | None, list[str]]:
    """Vectors of a file of their own, or the columns that hold them; neither where a model answers."""
    if options.model is None and options.vectors is None:
        return None, vector_columns(table, file, options)
    return None if options.vectors is None else vectors_of(options), []


def _attributes(
    file: Path, table: Any, vectors: Sequence[str], options: Options, notes: list[str]
) -> list[str]:
    """The columns of the inputs; vectors are none, whatever is used for vectors."""
    out = {*vectors, *options.leave_out, options.group}
    said = options.vectors_name is not None or options.vectors_prefix is not None
    if said and options.model is not None:
        out |= set(vector_columns(table, file, options))
    names = [name for name in table.column_names if name not in out]
    if index := [name for name in names if INDEX.fullmatch(name)]:
        notes.append(f"the numbers of the rows were left out: column {listed(map(repr, index))}")
        names = [name for name in names if name not in index]
    if len(odd := [name for name in names if name.startswith(PREFIX)]) > 1 and not vectors:
        notes.append(
            f"columns {listed(odd)} were taken for attributes; if they are vectors, leave them out with --leave-out"
        )
    lists = [name for name in names if is_list(table.schema.field(name).type)]
    if options.inputs_name is not None:
        require_known("inputs_name", [options.inputs_name], table.column_names, file.name)
        if not is_list(kind := table.schema.field(options.inputs_name).type):
            raise ValueError(
                f"inputs_name: expected a column of lists, which are embeddings, got {options.inputs_name} of {kind}; "
                "leave it out where the columns are attributes"
            )
        lists = [options.inputs_name]
    if len(lists) > 1:
        raise ValueError(
            f"inputs_name: expected one column of lists in {file.name} beside the vectors, got {listed(lists)}; name "
            "the embeddings with --inputs-name"
        )
    if lists:
        if others := [name for name in names if name not in lists]:
            notes.append(f"columns beside the embeddings were not looked at: {listed(others)}")
        return lists
    if not names:
        raise ValueError(
            f"{file.name}: expected columns beside the vectors, got none; an audit needs the inputs, too"
        )
    for name in names:
        kind = table.schema.field(name).type
        if not (is_number(kind) or is_text(kind) or kinds.is_null(kind)):
            raise ValueError(
                f"{file.name}: expected column {name} of numbers, text or truth values, got {kind}; leave it out with "
                f"--leave-out {name}, or save it as a number"
            )
    return names


def _complete(
    lacking: npt.NDArray[np.bool_], needed: Sequence[str], rows: Sequence[str]
) -> tuple[npt.NDArray[np.bool_], list[Skipped]]:
    """Rows without missing values, and the others with what they lack: bool, by needed column and row."""
    whole: npt.NDArray[np.bool_] = np.logical_not(lacking.any(0))
    skipped = [
        Skipped(
            row, f"{listed(name for name, gap in zip(needed, gaps, strict=True) if gap)} missing"
        )
        for row, gaps in zip(rows, lacking.T, strict=True)
        if gaps.any()
    ]
    return whole, skipped


def _tell_gaps(file: Path, shares: Mapping[str, float], left: int, notes: list[str]) -> None:
    """Notes the attributes that lack many values, of each the share.

    Raises:
        ValueError: if too few rows are left, and one column lacks most of its values.
    """
    gaps = {name: share for name, share in shares.items() if share >= _MANY}
    most = max(gaps, key=lambda name: gaps[name], default="")
    if left < FEWEST_ROWS and gaps.get(most, 0.0) > 0.5:
        raise ValueError(
            f"{file.name}: expected at least {FEWEST_ROWS} rows without missing values, got {left}: {most} is missing "
            f"in {gaps[most]:.0%} of the rows; leave the column out with --leave-out {most}"
        )
    for name, share in gaps.items():
        notes.append(
            f"rows that lack {name} were left out, {share:.0%} of all; --leave-out {name} keeps them"
        )


def _texts(column: Any) -> Array:
    return np.array([str(value) for value in column.to_pylist()])


def _frame(part: Any) -> Any:
    try:
        return part.to_pandas()
    except ImportError as error:
        raise ValueError(
            "model: expected pandas, in whose data frames a model gets the rows of a table, found none; pip install "
            "pandas"
        ) from error
