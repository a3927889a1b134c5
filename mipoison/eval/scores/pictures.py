"""Cut the pictures of a cell: some victims, as every defense's strongest adversary sees them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mipoison.eval.adversaries.base import Attack
from mipoison.eval.data.splits import Split


def pictures(
    parts: Split, adaptive: Attack, names: Sequence[str], bare: int, *, shown: int
) -> dict[str, npt.NDArray[np.float32]]:
    """Cuts the first victim of each class that has one, or the first victims where no row has a class.

    Of faces they are photographs: `catalogue.may_be_shown` says which pages may have them.

    Args:
        parts: the data by role.
        adaptive: the attack.
        names: of its systems.
        bare: the undefended system's index.
        shown: how many victims at most.

    Returns:
        "originals", "label only" and one entry a defense, ``[V, H, W]`` each.
    """
    labels = parts.victims.labels
    first = [int((labels == label).nonzero()[0]) for label in labels.unique() if label >= 0]
    rows = torch.tensor((first or list(range(len(labels))))[:shown])

    def image(pixels: Tensor) -> npt.NDArray[np.float32]:
        cut: npt.NDArray[np.float32] = pixels[rows].reshape(-1, *parts.image_shape).numpy()
        return cut

    made = {
        "originals": image(parts.victims.inputs),
        "label only": image(adaptive.reconstructions["label only"][bare]),
    }
    for system, name in enumerate(names):
        made[name] = image(adaptive.reconstructions[adaptive.strongest(system)][system])
    return made
