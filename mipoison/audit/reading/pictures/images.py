"""Bring images to [N, H, W, C] with C = 1 or 3, pixels to [0, 1], and their size to what an audit can train on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from mipoison.audit.reading.found import Array, named
from mipoison.eval.data.pictures import SIDE

# Pictures of at most so many pixels a side stay as they are; larger ones are averaged down to `SIDE`.
LARGEST: Final = 64
_CHANNELS: Final = (1, 2, 3, 4)
_BATCH: Final = 64
# Of images that are brought to float32 together.
_MOST_BYTES: Final = 1 << 26
# Images whose brightest pixel is below this share of the largest possible value are probably of another range.
DARK: Final = 0.25
# The largest values of whole numbers of 1, 8, 10, 12, 14 and 16 bits.
_FULL: Final = (1, 255, 1023, 4095, 16383, 65535)
_SHAPES: Final = "[N, H, W], [N, H, W, C] or [N, C, H, W] with 1 or 3 channels"


def as_shape(option: str, given: str, counts: tuple[int, ...]) -> tuple[int, ...]:
    """Numbers of an option such as "32,32,3".

    Raises:
        ValueError: if they are not so many, or not whole and positive.
    """
    parts = given.replace("x", ",").split(",")
    if len(parts) in counts and all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        return tuple(int(part) for part in parts)
    wanted = " or ".join(map(str, counts))
    raise ValueError(f"{option}: expected {wanted} whole numbers such as 32,32, got {given}")


def as_size(given: str | None) -> tuple[int, int] | None:
    """Height and width of "48" or "48,32"; None: not given."""
    if given is None:
        return None
    found = as_shape("size", given, (1, 2))
    return found[0], found[-1]


def channels_last(called: str, x: Array, shape: str | None, notes: list[str]) -> Array:
    """Images [N, H, W, C], C from 1 to 3.

    The channels are the last dimension if it is 1, 2, 3 or 4, else the second; where both could be, the last is taken
    and a note says so. With a shape, "H,W,C" or "C,H,W", they stand where it says.

    Raises:
        ValueError: if there are other numbers of channels, or the shape is another.
    """
    if shape is not None:
        x = _shaped(called, x, as_shape("shape", shape, (2, 3)))
    elif x.ndim == 3:
        x = x[..., None]
    elif x.ndim == 4:
        last, second = x.shape[3] in _CHANNELS, x.shape[1] in _CHANNELS
        if second and not last:
            x = np.moveaxis(x, 1, -1)
        elif second:
            notes.append(f"{called} {list(x.shape)} was read as [N, H, W, C]")
    if x.ndim != 4 or x.shape[3] not in _CHANNELS:
        raise ValueError(
            f"{called}: expected images {_SHAPES}, got {list(x.shape)}; --shape H,W,C says what one row is"
        )
    if x.shape[3] in (2, 4):
        notes.append(f"the last of {x.shape[3]} channels was taken for transparency and dropped")
        x = x[..., :-1]
    return x


def _shaped(called: str, x: Array, shape: tuple[int, ...]) -> Array:
    """Rows or images of a shape, as [N, H, W, C]."""
    colour = len(shape) == 3
    first = colour and shape[0] in _CHANNELS and shape[2] not in _CHANNELS
    inner = tuple(x.shape[1:])
    swapped = (shape[2], *shape[:2]) if colour and not first else shape
    if inner == (int(np.prod(shape)),):
        x = x.reshape(len(x), *shape)
    elif inner == shape:
        pass
    elif inner == swapped:
        first = True
    else:
        raise ValueError(
            f"shape: expected the shape of one row of {called}, which is {list(inner)}, got "
            f"{','.join(map(str, shape))}"
        )
    if not colour:
        return x[..., None]
    return np.moveaxis(x, 1, -1) if first else x


def unit_scale(
    called: str, x: Array, names: Sequence[str], notes: list[str]
) -> Callable[[Array], Array]:
    """What brings some of the images to float32 in [0, 1]; the range of all decides.

    Whole numbers are divided by the largest of the fewest bits (1, 8, 10, 12, 14, 16) that hold them. Floats in [0, 1]
    stay as they are, those in [0, 255] are divided by 255, and [−1, 1] is shifted to [0, 1]. Notes say so where it is
    not plain.

    Raises:
        ValueError: for NaN, or numbers of another range.
    """
    if x.dtype == np.bool_ or x.size == 0:
        return lambda part: part.astype(np.float32)
    low, high = float(x.min()), float(x.max())
    if x.dtype.kind in "iu" and low >= 0 and high <= _FULL[-1]:
        return _of_whole(x.dtype, int(high), notes)
    if not np.isfinite((low, high)).all():
        bad = ~np.isfinite(x.reshape(len(x), -1)).all(1)
        raise ValueError(
            f"{called}: expected finite pixels, got NaN or infinite ones in {named(bad, names)}; leave "
            "these images out"
        )
    if low >= 0 and high <= 1:
        return lambda part: part.astype(np.float32)
    # (Up to 2, some pixels of [0, 1] overshoot it.)
    if low >= 0 and 2 <= high <= 255:
        notes.append(f"pixels from {low:g} to {high:g} were divided by 255")
        return lambda part: part.astype(np.float32) / np.float32(255)
    if low >= -1 and high <= 1:
        notes.append("pixels in [-1, 1] were shifted to [0, 1]")
        return lambda part: (part.astype(np.float32) + np.float32(1)) / np.float32(2)
    raise ValueError(
        f"{called}: expected pixels in [0, 1], [-1, 1] or [0, 255], got numbers from {low:.4g} to {high:.4g}; undo "
        "their standardization, or divide them by the largest possible value"
    )


def _of_whole(dtype: Any, high: int, notes: list[str]) -> Callable[[Array], Array]:
    """Divides whole numbers from 0 to `high` by the largest of their bits."""
    full = next(one for one in _FULL if one >= high)
    top = np.float32(full)
    if full == 1:
        notes.append("pixels of 0 and 1 were taken as they are")
    elif np.iinfo(dtype).max != full:
        notes.append(f"pixels from 0 to {high} were divided by {full}")
    elif high < DARK * full:
        notes.append(
            f"pixels from 0 to {high} were divided by {full}; where {high} is the largest possible, divide them by it"
        )
    return lambda part: part.astype(np.float32) / top


def together(x: Array) -> int:
    """How many images are brought to float32 at once, so that copies of them take little memory."""
    return max(1, min(_BATCH, _MOST_BYTES // max(1, 4 * int(np.prod(x.shape[1:], dtype=np.int64)))))


def target_size(sizes: set[tuple[int, int]], size: tuple[int, int] | None) -> tuple[int, int]:
    """Height and width of an audit's images, where those that there are have some sizes."""
    if size is not None:
        return size
    if len(sizes) == 1 and max(own := next(iter(sizes))) <= LARGEST:
        return own
    return SIDE, SIDE


def resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Images [n, H, W, C] averaged over areas of equal size; proportions are not kept."""
    if tuple(images.shape[1:3]) == size:
        return images
    return interpolate(images.movedim(-1, 1), size=size, mode="area").movedim(1, -1)


def reduced(
    x: Array, scale: Callable[[Array], Array], size: tuple[int, int], notes: list[str]
) -> Array:
    """Float32 images [N, *size, C] in [0, 1], a few at a time."""
    if tuple(x.shape[1:3]) != size:
        notes.append(f"images of {x.shape[1]}x{x.shape[2]} were averaged to {size[0]}x{size[1]}")
    found = np.empty((len(x), *size, x.shape[3]), np.float32)
    step = together(x)
    for first in range(0, len(x), step):
        part = torch.from_numpy(np.ascontiguousarray(scale(x[first : first + step])))
        found[first : first + step] = resized(part, size).numpy()
    return found


def grey_where_equal(x: Array, notes: list[str]) -> Array:
    """Drops two of three channels that are equal everywhere."""
    if x.shape[3] != 3 or not (
        np.array_equal(x[..., 0], x[..., 1]) and np.array_equal(x[..., 0], x[..., 2])
    ):
        return x
    notes.append("the three channels are equal in every pixel: the images were taken as grey")
    return x[..., :1]


def batches(x: Array, scale: Callable[[Array], Array]) -> Iterator[Tensor]:
    """Images as a model takes them: float32 [n, C, H, W] in [0, 1]."""
    step = together(x)
    for first in range(0, len(x), step):
        part = torch.from_numpy(np.ascontiguousarray(scale(x[first : first + step])))
        yield part.movedim(-1, 1).contiguous()
