"""Read a picture as a small grey square."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate


def grey_square(path: Path, side: int) -> Tensor:
    """Returns a picture's luminance, averaged over areas of equal size.

    Args:
        path: a file that Pillow reads.
        side: height and width to come down (or up) to; proportions are not kept.

    Returns:
        float32 ``[side, side]``, pixels in [0, 1].
    """
    with Image.open(path) as picture:
        return grey(picture, side)


def grey(picture: Image.Image, side: int) -> Tensor:
    """Returns an open picture's luminance, as `grey_square` does."""
    pixels = torch.from_numpy(np.array(picture.convert("L"), dtype=np.float32)) / 255.0
    return interpolate(pixels[None, None], size=(side, side), mode="area")[0, 0]
