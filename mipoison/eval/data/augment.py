"""Make several altered copies of each image, so that few photos train a network."""

from __future__ import annotations

import numpy as np
import torch

from mipoison.eval.data.roles import Role

# Largest shift, as a share of the image's side, and largest change of brightness.
_SHIFT = 1 / 16
_LIGHT = 0.15


def augment(role: Role, *, copies: int, image_shape: tuple[int, int], seed: int) -> Role:
    """Follows each image by altered copies: shifted, half of them mirrored, lighter or darker.

    Shifts are up to a sixteenth of the side, with the edge repeated; brightness is multiplied by
    0.85 to 1.15 and cut at 1. Copies stand together, so that the last rows of a role are copies
    of its last images alone.

    Args:
        role: the images.
        copies: of each image, the unaltered one included.
        image_shape: height and width.
        seed: of the alterations.

    Returns:
        ``copies`` times as many rows; those of one image share its position in the data set.

    Example:
        >>> photo = Role(torch.rand(1, 64), torch.tensor([3]), torch.tensor([17]))
        >>> more = augment(photo, copies=4, image_shape=(8, 8), seed=0)
        >>> more.rows.tolist(), torch.equal(more.inputs[0], photo.inputs[0])
        ([17, 17, 17, 17], True)
    """
    height, width = image_shape
    total = copies * len(role)
    generator = np.random.default_rng(seed)
    reach = max(1, round(min(height, width) * _SHIFT))
    down, right = generator.integers(-reach, reach + 1, (2, total))
    mirrored = generator.random(total) < 0.5
    light = generator.uniform(1 - _LIGHT, 1 + _LIGHT, total).astype(np.float32)
    original = np.arange(total) % copies == 0
    down[original], right[original], mirrored[original], light[original] = 0, 0, False, 1.0
    lines = np.clip(np.arange(height) + down[:, None], 0, height - 1)
    columns = np.clip(np.arange(width) + right[:, None], 0, width - 1)
    columns[mirrored] = columns[mirrored, ::-1]
    source = np.arange(total) // copies
    images = role.inputs.reshape(-1, height, width).numpy()
    shifted = images[source[:, None, None], lines[:, :, None], columns[:, None, :]]
    altered = torch.from_numpy(shifted * light[:, None, None]).clamp(0.0, 1.0)
    return Role(
        altered.reshape(total, -1),
        role.labels.repeat_interleave(copies),
        role.rows.repeat_interleave(copies),
    )
