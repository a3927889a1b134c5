"""Read inputs from an npz or npy: images, or rows of embeddings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from mipoison.audit.evidence import Skipped
from mipoison.audit.reading.confidences import require_count
from mipoison.audit.reading.found import Array, Found, row_names, sampled
from mipoison.audit.reading.options import INPUTS, VECTORS, Options
from mipoison.audit.reading.pairing import paired
from mipoison.audit.reading.pictures import images
from mipoison.audit.reading.stored import Stored, arrays_of
from mipoison.audit.reading.vectors import (
    Vectors,
    chosen,
    group_array,
    keys_in,
    names_of,
    of_arrays,
    require_shape,
    vectors_of,
)

_BATCH: Final = 256
_LEAST_SIDE: Final = 8
_NUMBERS: Final = "fiub"


def read_arrays(file: Path, options: Options) -> Found:
    """What an npz or npy has.

    Images are arrays of three or four dimensions, and of two where `shape` says what one row is; other rows are
    embeddings. See `images.channels_last` for where the channels are.

    Raises:
        ValueError: for arrays that are missing, damaged, of objects or text, or not as many as each other.
    """
    arrays = arrays_of(file)
    x = chosen(arrays, "inputs_name", options.inputs_name, INPUTS, file)
    if x.dtype.kind not in _NUMBERS:
        kind = "text" if x.dtype.kind in "US" else str(x.dtype)
        raise ValueError(
            f"{x.called}: expected inputs of real numbers, got {kind}; text goes in as its embeddings"
        )
    if len(x.shape) < 2 or not x.row:
        raise ValueError(
            f"{x.called}: expected images [N, H, W] or [N, H, W, C], or embeddings [N, D], got {list(x.shape)}"
        )
    vectors = _vectors(file, arrays, options)
    notes: list[str] = []
    count, width = x.shape[0], vectors.width if vectors else 0
    pictures = len(x.shape) > 2 or options.shape is not None
    if pictures:
        # (Its shape alone; it takes no memory.)
        _, height, breadth, channels = images.channels_last(
            x.called, np.broadcast_to(np.uint8(0), x.shape), options.shape, []
        ).shape
        size = images.target_size({(height, breadth)}, images.as_size(options.size))
        numbers = size[0] * size[1] * channels
    else:
        numbers = x.row
        if options.size is not None:
            raise ValueError(
                f"size: expected none for embeddings, got {options.size}; images in rows need --shape H,W,C, too"
            )
        if _may_be_images(x):
            notes.append(
                f"{x.called} {list(x.shape)} was taken for embeddings; of images, --shape H,W,C says what a row is"
            )
    places = None if vectors is None else _places(vectors, arrays, x, options, notes)
    fit = None if places is None or (places >= 0).all() else np.flatnonzero(places >= 0)
    some = count if fit is None else len(fit)
    keep = sampled(some, numbers + width, notes, raw=x.row * x.dtype.itemsize)
    keep = keep if fit is None else fit if keep is None else fit[keep]
    rows, names = x.take(keep), row_names(count, keep)
    places = places if places is None or keep is None else places[keep]
    given, batches = (
        _images(x, rows, names, size, options, notes) if pictures else (rows, partial(_parts, rows))
    )
    return Found(
        "images" if pictures else "embeddings",
        given,
        names,
        batches,
        outputs=None if vectors is None or places is None else vectors.at(places),
        groups=_groups(file, arrays, vectors, options, count, keep, places),
        labels=_labels(arrays, count, keep),
        classes=names_of(arrays) or (() if vectors is None else vectors.classes),
        logits=vectors is not None and vectors.logits,
        called=x.called,
        vectors_called="" if vectors is None else vectors.called,
        skipped=[] if fit is None else _lost(count, fit),
        notes=notes,
    )


def _may_be_images(x: Stored) -> bool:
    """Whether rows look like square images that were flattened."""
    side = round(x.row**0.5)
    if side * side != x.row or side < _LEAST_SIDE:
        return False
    some = x.take(np.arange(min(x.shape[0], _BATCH)))
    return bool(some.size and some.min() >= 0 and (some.max() <= 1 or x.dtype == np.uint8))


def _vectors(file: Path, arrays: dict[str, Stored], options: Options) -> Vectors | None:
    if options.model is not None:
        return None
    if options.vectors is not None:
        return vectors_of(options)
    named = options.vectors_name is not None or any(name in arrays for name in VECTORS)
    if "" in arrays or not (named or len(arrays) > 1):
        raise ValueError(
            f"vectors: expected the vectors of {file.name}, got none; name their file with --vectors, or what answers "
            "with --model"
        )
    return of_arrays(file, arrays, options)


def _images(
    x: Stored,
    rows: Array,
    names: Sequence[str],
    size: tuple[int, int],
    options: Options,
    notes: list[str],
) -> tuple[Array, Callable[[], Iterator[Any]]]:
    """Images [N, *size, C] in [0, 1], and what a model gets: those of the size that they have."""
    pictures = images.channels_last(x.called, rows, options.shape, notes)
    scale = images.unit_scale(x.called, pictures, names, notes)
    seen = images.grey_where_equal(pictures, notes)
    return images.reduced(seen, scale, size, notes), partial(images.batches, pictures, scale)


def _parts(rows: Array) -> Iterator[Array]:
    for first in range(0, len(rows), _BATCH):
        yield rows[first : first + _BATCH]


def _places(
    vectors: Vectors, arrays: dict[str, Stored], x: Stored, options: Options, notes: list[str]
) -> npt.NDArray[np.int64]:
    """The position of each input's vector: its own where one file has both."""
    count = x.shape[0]
    if options.vectors is None:
        require_count(vectors.called, vectors.shape, count, "inputs")
        return np.arange(count)
    return paired(vectors, keys_in(arrays, (count,)), count, None, "inputs", notes)


def _lost(count: int, fit: npt.NDArray[np.int64]) -> list[Skipped]:
    lost = np.setdiff1d(np.arange(count), fit)
    return [Skipped(name, "no vector") for name in row_names(count, lost)]


def _groups(
    file: Path,
    arrays: dict[str, Stored],
    vectors: Vectors | None,
    options: Options,
    count: int,
    keep: Any,
    places: npt.NDArray[np.int64] | None,
) -> Array | None:
    """Groups beside the inputs, or beside the vectors; of an array that an option names it is certain that it is there.

    Raises:
        ValueError: if both have groups, and they differ.
    """
    own = group_array(arrays, options, (count,), "inputs")
    own = own if own is None or keep is None else own[keep]
    theirs = None
    if vectors is not None and vectors.groups is not None and options.vectors is not None:
        theirs = vectors.groups if places is None else vectors.groups[places]
    if options.group is not None and own is None and theirs is None:
        chosen(arrays, "group", options.group, (), file)
    if own is None or theirs is None:
        return theirs if own is None else own
    if not np.array_equal(own.astype(str), theirs.astype(str)):
        raise ValueError(
            f"group: expected the groups of {file.name} and {vectors.file if vectors else ''} to be equal, got others "
            "for some rows; leave those of one file out"
        )
    return own


def _labels(arrays: dict[str, Stored], count: int, keep: Any) -> Array | None:
    """True classes, numbers or text [N]; None where there are none."""
    stored = arrays.get("y")
    if stored is None:
        return None
    require_shape(stored, (count,), "inputs")
    return stored.take(keep)
