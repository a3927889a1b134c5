"""Read what an audit looks at, and tell every mistake in it before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mipoison.audit.evidence import Column, Evidence
from mipoison.audit.reading.arrays import read_arrays
from mipoison.audit.reading.callables import answered
from mipoison.audit.reading.checks import (
    groups_of,
    require_inputs,
    require_rows,
    standardized,
    tell_labels,
)
from mipoison.audit.reading.confidences import HOTTEST, as_columns, as_probabilities
from mipoison.audit.reading.found import Array, Found, sampled
from mipoison.audit.reading.options import Options
from mipoison.audit.reading.vectors import ARRAYS, PARQUET, TABLES, ends, needing_arrow
from mipoison.ops.numbers import as_number
from mipoison.progress import Progress, Report, as_report


def read(
    inputs: str | Path,
    *,
    vectors: str | Path | None = None,
    model: str | None = None,
    inputs_name: str | None = None,
    vectors_name: str | None = None,
    vectors_prefix: str | None = None,
    categorical: Sequence[str] = (),
    leave_out: Sequence[str] = (),
    group: str | None = None,
    missing: Sequence[str] = (),
    shape: str | None = None,
    size: str | None = None,
    logits: bool = False,
    temperature: float = 1.0,
    progress: Report | None = None,
) -> Evidence:
    """Reads inputs and vectors, checked.

    Args:
        inputs: an npz or npy (images, or embeddings), a CSV or Parquet (people, or embeddings in a list column), or a
            folder of pictures.
        vectors: see `Options`, as are the others up to temperature.
        model: see `Options`.
        inputs_name: see `Options`.
        vectors_name: see `Options`.
        vectors_prefix: see `Options`.
        categorical: see `Options`.
        leave_out: see `Options`.
        group: see `Options`.
        missing: see `Options`.
        shape: see `Options`.
        size: see `Options`.
        logits: see `Options`.
        temperature: see `Options`.
        progress: called with the share that is read, in (0, 1].

    Returns:
        at least `found.FEWEST_ROWS` rows, in groups that keep copies of one input together.

    Raises:
        FileNotFoundError: if there is no such file or folder.
        ValueError: for whatever else is wrong, in one line: what was expected, what came, and what to do. It begins
            with the name of the argument or file.
    """
    if vectors is not None and model is not None:
        raise ValueError(
            f"model: expected vectors or what answers with them, got both {Path(vectors).name} and {model}; leave "
            "one out"
        )
    if vectors_name is not None and vectors_prefix is not None:
        raise ValueError(
            f"vectors_prefix: expected none beside vectors_name {vectors_name}, got {vectors_prefix}; leave one out"
        )
    as_number("temperature", temperature, 0.0, HOTTEST, open_low=True)
    options = Options(
        vectors=None if vectors is None else Path(vectors),
        model=model,
        inputs_name=inputs_name,
        vectors_name=vectors_name,
        vectors_prefix=vectors_prefix,
        categorical=tuple(categorical),
        leave_out=tuple(leave_out),
        group=group,
        missing=tuple(missing),
        shape=shape,
        size=size,
        logits=logits,
        temperature=temperature,
    )
    told = Progress(as_report(progress))
    found = _found(Path(inputs), options, told.part(0.0, 1.0 if model is None else 0.3))
    require_rows(found, Path(inputs).name)
    if model is not None:
        _ask(found, model, options, told.part(0.3, 1.0))
    evidence = _evidence(found, options, _source(Path(inputs), options))
    told(1.0)
    return evidence


def _found(path: Path, options: Options, progress: Progress) -> Found:
    """What the source has, by its kind."""
    if not path.exists():
        raise FileNotFoundError(f"inputs: expected a file or folder {path}, found none")
    # (A model takes the place of vectors. In a table their columns are no attributes, all the same.)
    unused = ("vectors_name", "vectors_prefix") if options.model is not None else ()
    if path.is_dir():
        _require_unused(
            options,
            "a folder",
            ("inputs_name", "categorical", "leave_out", "shape", "missing", *unused),
        )
        from mipoison.audit.reading.pictures.folders import read_folder

        return read_folder(path, options, progress)
    if ends(path, ARRAYS):
        _require_unused(options, path.name, ("categorical", "leave_out", "missing", *unused))
        return read_arrays(path, options)
    if ends(path, TABLES):
        parquet = ("missing",) if ends(path, PARQUET) else ()
        _require_unused(options, path.name, ("shape", "size", *parquet))
        with needing_arrow(path):
            from mipoison.audit.reading.tables.inputs import read_people

        return read_people(path, options)
    raise ValueError(
        f"inputs: expected a folder of pictures or a file {', '.join(ARRAYS + TABLES)}, got {path.name}; save it as "
        "one of these"
    )


def _require_unused(options: Options, of: str, names: Sequence[str]) -> None:
    """Raises ValueError for an option that would be without effect."""
    for name in names:
        if getattr(options, name) not in (None, ()):
            raise ValueError(f"{name}: expected none for {of}, got {getattr(options, name)}")


def _ask(found: Found, model: str, options: Options, progress: Progress) -> None:
    """Fills in the vectors that the model gives."""
    attributes = found.inputs.column_names if found.kind == "table" else ()
    found.outputs, found.logits = answered(
        model, found.batches(), len(found.names), progress, attributes
    )
    # (Notes with it stand on the page.)
    found.vectors_called = f"model: {_last(model)}"


def _source(path: Path, options: Options) -> str:
    """Names of files, without the folders above them."""
    own = "" if options.vectors is None else f" with {options.vectors.name}"
    asked = "" if options.model is None else f" with {_last(options.model)}"
    return f"{path.resolve().name}{own}{asked}"


def _last(model: str) -> str:
    """What a model is called, without the folders above it."""
    return model.replace("\\", "/").rpartition("/")[2]


def _evidence(found: Found, options: Options, source: str) -> Evidence:
    notes = found.notes
    assert found.outputs is not None
    scores = as_columns(found.vectors_called, found.outputs)
    # (A name alone makes no logits of numbers that are not negative, such as percent.)
    named = found.logits and bool((scores < 0).any())
    if named and not options.logits:
        notes.append(f"{found.vectors_called}: logits were brought through the softmax")
    outputs = as_probabilities(
        found.vectors_called,
        scores,
        found.names,
        notes,
        logits=options.logits or named,
        temperature=options.temperature,
    )
    if found.classes and len(found.classes) != outputs.shape[1]:
        raise ValueError(
            f"{found.vectors_called}: expected {outputs.shape[1]} names of classes, got {len(found.classes)}; leave "
            "them out, or give each class one"
        )
    inputs, columns = _inputs(found, options)
    tell_labels(found, outputs, notes)
    groups = groups_of(inputs, found.groups, notes, source)
    # (How long a row is shows only now where a table was encoded or a model answered.)
    keep = sampled(len(inputs), inputs.shape[1] + outputs.shape[1], notes)
    chosen = slice(None) if keep is None else torch.from_numpy(keep)
    return Evidence(
        kind=found.kind,
        inputs=torch.from_numpy(inputs)[chosen],
        outputs=outputs[chosen],
        groups=groups[chosen],
        image_shape=tuple(found.inputs.shape[1:]) if found.kind == "images" else None,
        columns=columns,
        classes=found.classes,
        skipped=tuple(found.skipped),
        source=source,
        notes=tuple(notes),
    )


def _inputs(found: Found, options: Options) -> tuple[Array, tuple[Column, ...]]:
    """Float32 [N, D] as `Evidence` has them, and the columns of a table."""
    if found.kind == "table":
        from mipoison.audit.reading.tables.attributes import encoded

        return encoded(found.called, found.inputs, options.categorical, found.names, found.notes)
    rows: Any = found.inputs.reshape(len(found.inputs), -1)
    require_inputs(found.called, rows, found.names)
    if found.kind == "embeddings":
        return standardized(rows, found.notes), ()
    return np.ascontiguousarray(rows, np.float32), ()
