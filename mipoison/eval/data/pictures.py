"""Read a picture as a small grey square."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

_DEEP = 2**16 - 1


def grey_square(path: Path, side: int) -> Tensor:
    """Returns a picture's luminance, averaged over areas of equal size.

    Args:
        path: a file that Pillow reads.
        side: height and width to come down (or up) to; proportions are not kept.

    Returns:
        float32 ``[side, side]``, pixels in [0, 1].

    Raises:
        ValueError: if Pillow cannot read it, and as `grey` does; the file is named.
    """
    try:
        with Image.open(path) as picture:
            picture.load()
            return grey(picture, side)
    # Pillow's plugins raise whatever a broken file brings them to.
    except Exception as error:
        said = str(error) if str(path) in str(error) else f"{path}: {error}"
        raise ValueError(f"{said}; mend the picture or remove it") from error


def grey(picture: Image.Image, side: int) -> Tensor:
    """Returns an open picture's luminance, as `grey_square` does.

    Raises:
        ValueError: as `luminance`.
    """
    return interpolate(luminance(picture)[None, None], size=(side, side), mode="area")[0, 0]


def luminance(picture: Image.Image) -> Tensor:
    """Returns an open picture's luminance, float32 ``[H, W]`` in [0, 1].

    Raises:
        ValueError: if its numbers have no range that is known: neither 8 nor 16 bits.
    """
    # Older versions of Pillow read a PNG of 16 bits into 32.
    if picture.mode.startswith("I;16") or (picture.mode, picture.format) == ("I", "PNG"):
        return torch.from_numpy(np.array(picture, dtype=np.float32)) / _DEEP
    if picture.mode in ("I", "F"):
        # Pillow would cut them off at 255.
        raise ValueError(
            f"expected a picture of 8 or 16 bits, got numbers of 32 (mode {picture.mode}); save it with 8 or 16"
        )
    return torch.from_numpy(np.array(picture.convert("L"), dtype=np.float32)) / 255.0


SIDE = 32
