"""Functions of single entries whose last bit does not depend on where an entry stands."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def entrywise(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """One function of torch, of every entry: [...] → [...].

    Torch computes dense memory in vectors and what is left over at its end one by one, by another algorithm for some
    functions (`pow`, `sigmoid`): the last bit of an entry would depend on how many rows came with it. Entries that are
    two places apart are all computed one by one.
    """
    return function(torch.stack((x, x), -1)[..., 0])
