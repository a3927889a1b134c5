"""Read the arrays of a ``.npz``, and the answers of a classifier that are stored with its images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mipoison.reference import valid_rows

# Of probabilities the logarithm is the logit; zeros have none. Adversaries read entries down to 1e-30.
_FLOOR: Final = 1e-30


def scaled(x: npt.NDArray[Any], where: str, name: str) -> npt.NDArray[np.float32]:
    """Bytes as numbers in 0–1, other numbers as they are; float32.

    Args:
        x: numbers of any shape.
        where: the file, in messages.
        name: the array, in messages.

    Raises:
        ValueError: if it holds no numbers, numbers out of [0, 1], or bytes of which none is above 1.
    """
    if x.dtype.kind not in "fiub":
        raise ValueError(f"{where}: expected {name} of numbers, got {x.dtype}")
    # (Nothing but zeros is the same in either unit.)
    if x.dtype == np.uint8 and x.size and x.max() == 1:
        raise ValueError(
            f"{where}: expected {name} of uint8 from 0 to 255, got none above 1, and errors would be those of 255ths; "
            "save numbers in 0-1 as float32"
        )
    found = x.astype(np.float32) / np.float32(255 if x.dtype == np.uint8 else 1)
    # Written so that NaN fails.
    if not bool(((found >= 0.0) & (found <= 1.0)).all()):
        raise ValueError(
            f"{where}: expected {name} in [0, 1] or uint8, got {x.dtype} from {x.min()} to {x.max()}; divide {name} by "
            "the largest possible value"
        )
    return found


def read_npz(
    path: Path, name: str, needed: tuple[str, ...], how: str
) -> dict[str, npt.NDArray[Any]]:
    """Reads all arrays of a ``.npz``.

    Args:
        path: the file.
        name: what it is in messages.
        needed: arrays that it must have.
        how: the call that writes such a file, for messages.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read, or lacks one of the arrays.
    """
    if not path.is_file():
        found = "a folder" if path.is_dir() else "none"
        raise FileNotFoundError(
            f"{name}: expected a .npz file, found {found}; name one that {how} wrote"
        )
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if not set(needed) <= set(arrays.files):
                raise _Unfit(
                    f"{name}: expected arrays {' and '.join(needed)}, got {sorted(arrays.files)}"
                )
            return {each: arrays[each] for each in arrays.files}
    except _Unfit:
        raise
    # An .npy has no arrays by name, and what is damaged fails in many ways.
    except Exception as error:
        said = str(error).partition("\n")[0]
        raise ValueError(
            f"{name}: expected a .npz that numpy.savez wrote, with arrays of numbers or text and no objects, got "
            f"{type(error).__name__}: {said}; write it again with {how}"
        ) from error


class _Unfit(ValueError):
    """Of a file that can be read."""


def stored_logits(
    arrays: Mapping[str, npt.NDArray[Any]], name: str, *, count: int
) -> Tensor | None:
    """The logits of a classifier that is not here, one row an image; None where none are stored.

    Args:
        arrays: of the file: "logits" ``[N, K]``, or "outputs" ``[N, K]``, whose logarithms serve as logits.
        name: of the file, in messages.
        count: N.

    Returns:
        float32 ``[N, K]``.

    Raises:
        ValueError: if there are both, or they are not as described.

    Example:
        >>> stored_logits({"outputs": np.array([[0.5, 0.5]])}, "mine.npz", count=1)
        tensor([[-0.6931, -0.6931]])
    """
    found = [key for key in ("logits", "outputs") if key in arrays]
    if not found:
        return None
    if len(found) > 1:
        raise ValueError(f"{name}: expected logits or outputs, got both; leave one out")
    given, kind = arrays[found[0]], found[0]
    if (
        given.dtype.kind not in "fiu"
        or given.ndim != 2
        or given.shape[0] != count
        or given.shape[1] < 2
    ):
        raise ValueError(
            f"{name}: expected {kind} of numbers [{count}, K], a row for each image and at least 2 classes, got "
            f"{given.dtype} {list(given.shape)}"
        )
    numbers = torch.from_numpy(given.astype(np.float32))
    valid = numbers.isfinite().all(1) if kind == "logits" else valid_rows(numbers)
    if not bool(valid.all()):
        wanted = "finite" if kind == "logits" else "probability vectors: entries >= 0 that sum to 1"
        raise ValueError(
            f"{name}: expected {kind} to be {wanted}, got {int((~valid).sum())} other rows, the first at "
            f"{int((~valid).nonzero()[0])}"
        )
    return numbers if kind == "logits" else numbers.clamp_min(_FLOOR).log()
