"""Read inputs from an npz or npy: images, or rows of embeddings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from mipoison.audit.reading import images
from mipoison.audit.reading.confidences import require_count
from mipoison.audit.reading.found import Array, Found, row_names, sampled
from mipoison.audit.reading.options import INPUTS, VECTORS, Options
from mipoison.audit.reading.stored import Stored, arrays_of
from mipoison.audit.reading.vectors import Vectors, chosen, names_of, of_arrays, vectors_of

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
    if vectors is not None:
        require_count(vectors.called, vectors.shape, count, "inputs")
    keep = sampled(count, numbers + width, notes, raw=x.row * x.dtype.itemsize)
    rows, names = x.take(keep), row_names(count, keep)
    given, batches = (
        _images(x, rows, names, size, options, notes) if pictures else (rows, partial(_parts, rows))
    )
    return Found(
        "images" if pictures else "embeddings",
        given,
        names,
        batches,
        outputs=None if vectors is None else vectors.of(count, "inputs", keep),
        groups=_beside(arrays, _group(arrays, file, options), count, keep),
        labels=_beside(arrays, "y", count, keep),
        classes=names_of(arrays) or (() if vectors is None else vectors.classes),
        logits=vectors is not None and vectors.logits,
        called=x.called,
        vectors_called="" if vectors is None else vectors.called,
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


def _group(arrays: dict[str, Stored], file: Path, options: Options) -> str:
    """The name of the array of groups; of one that an option names it is certain that it is there."""
    if options.group is not None:
        chosen(arrays, "group", options.group, (), file)
    return options.group or "groups"


def _beside(arrays: dict[str, Stored], name: str, count: int, keep: Any) -> Array | None:
    """An array [N] of numbers or text beside the inputs; None where there is none."""
    stored = arrays.get(name)
    if stored is None:
        return None
    if stored.shape != (count,):
        raise ValueError(
            f"{stored.called}: expected one value for each of {count} inputs, got {list(stored.shape)}; leave the "
            "array "
            "out, or give each input one"
        )
    return stored.take(keep)
