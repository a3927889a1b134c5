"""Check inputs before anything is trained, and keep copies of one input in one group."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mipoison.audit.reading.found import FEWEST_ROWS, Array, Found, listed, named, positions
from mipoison.audit.reading.keys import as_texts

# Each of three roles needs several people or photographs, so that its figures are of more than one of them.
FEWEST_GROUPS: Final = 30

# A classifier is better than chance by more.
_ABOVE_CHANCE: Final = 0.1


def require_rows(found: Found, of: str) -> None:
    """Raises ValueError for fewer rows than an audit needs; what was skipped is told, since it may be why."""
    count = len(found.names)
    if count >= FEWEST_ROWS:
        return
    skipped = ""
    if found.skipped:
        some = listed(f"{one.name}: {one.reason}" for one in found.skipped[:3])
        skipped = f" beside {len(found.skipped)} that were skipped ({some})"
    raise ValueError(
        f"{of}: expected at least {FEWEST_ROWS} rows, of which a quarter fits the defenses, half trains the "
        f"adversaries and a quarter is attacked, got {count}{skipped}; add more"
    )


def require_inputs(called: str, inputs: Array, names: Sequence[str]) -> None:
    """Raises ValueError for NaN, infinite numbers, or inputs [N, D] that are all the same."""
    bad = ~np.isfinite(inputs).all(1)
    if bad.any():
        raise ValueError(
            f"{called}: expected finite inputs, got NaN or infinite ones in {named(bad, names)}; leave these rows out"
        )
    if not inputs.shape[1] or bool((inputs == inputs[0]).all()):
        raise ValueError(
            f"{called}: expected inputs that differ, got the same in every row; there is nothing to reconstruct"
        )


def groups_of(inputs: Array, groups: Array | None, notes: list[str], of: str) -> Tensor:
    """Numbers of groups, int64 [N]: the given ones, joined where rows of two have the same input.

    Raises:
        ValueError: if too few groups are left.
    """
    copies = _same(inputs)
    distinct = int(copies.max()) + 1
    if distinct < len(inputs):
        notes.append(
            f"{len(inputs) - distinct} of {len(inputs)} rows repeat the input of another; copies stay on one side"
        )
    joined = copies if groups is None else _joined(positions(groups), copies)
    count = int(joined.max()) + 1
    if count < FEWEST_GROUPS:
        given = (
            ""
            if groups is None
            else f" ({len(np.unique(groups))} before those with equal inputs were joined)"
        )
        raise ValueError(
            f"{of}: expected at least {FEWEST_GROUPS} groups of rows that stay together, so that each role has several,"
            f" got {count}{given}; add people (or whatever the groups are) or inputs that differ"
        )
    return torch.from_numpy(joined)


def _same(inputs: Array) -> npt.NDArray[np.int64]:
    """Equal rows get equal numbers."""
    # (Without negative zeros, which are equal to others and have other bytes.)
    plain = np.ascontiguousarray(inputs + 0.0)
    return positions(
        np.array([hashlib.blake2b(row.tobytes(), digest_size=16).hexdigest() for row in plain])
    )


def _joined(first: Array, second: Array) -> npt.NDArray[np.int64]:
    """The finest groups that contain each group of both: rows take the least number that they reach through either."""
    reached = np.arange(len(first))
    while True:
        before = reached
        for groups in (first, second):
            least = np.full(int(groups.max()) + 1, len(first))
            np.minimum.at(least, groups, reached)
            reached = least[groups]
        if np.array_equal(before, reached):
            return positions(reached)


def standardized(inputs: Array, notes: list[str]) -> Array:
    """Embeddings [N, D] with columns of mean 0 and variance 1; constant ones become 0.

    Raises:
        ValueError: if numbers are too large for their variance.
    """
    wide = inputs.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        scale = wide.std(0)
    if not np.isfinite(scale).all():
        raise ValueError(
            f"inputs: expected embeddings whose spread float64 holds, got numbers up to {np.abs(wide).max():.4g}; "
            "scale them before"
        )
    constant = scale <= 1e-12 * np.abs(wide.mean(0))
    if constant.any():
        notes.append(
            f"{int(constant.sum())} of {len(scale)} columns of the embeddings are constant"
        )
    found: Array = (wide - wide.mean(0)) / np.where(constant, 1.0, scale)
    found[:, constant] = 0.0
    return found.astype(np.float32)


def tell_labels(found: Found, outputs: Tensor, notes: list[str]) -> None:
    """Notes how often the largest entry is the true class, which shows vectors in another order than the inputs."""
    if found.labels is None:
        return
    classes, top = outputs.shape[1], outputs.argmax(1).numpy()
    labels = found.labels
    if labels.dtype.kind in "US" and found.classes:
        place = {name: i for i, name in enumerate(found.classes)}
        texts = as_texts(labels)
        assert texts is not None
        labels = np.array([place.get(name, -1) for name in texts])
    elif len(np.unique(labels)) <= classes:
        # (Whole numbers may begin at one, or be those of a data set with more classes.)
        labels = (
            labels if labels.dtype.kind in "iu" and labels.max() < classes else positions(labels)
        )
    else:
        return
    right = float((labels == top).mean())
    # How often they would agree if neither knew of the other.
    chance = sum(float((labels == k).mean() * (top == k).mean()) for k in range(classes))
    doubt = ": are vectors and inputs in the same order?" if right < chance + _ABOVE_CHANCE else ""
    notes.append(f"the largest entry is the class that y names in {right:.1%} of the rows{doubt}")
