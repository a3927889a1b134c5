"""Keying on a caller's own request identities instead of the rows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mipoison.random import Key

Ids: TypeAlias = (
    "Tensor | npt.NDArray[Any] | Sequence[int] | Sequence[str] | Sequence[bytes] | None"
)
# An id as a row: sixteen bits an entry, which float32 holds exactly, so that the row hash of every backend serves
# for ids too. An int takes four entries; a text's digest takes eight and a mark.
_ENTRIES: Final = 9


def as_requests(ids: Any, rows: Tensor) -> Tensor:
    """Ids as rows that the row hash takes, float32 [N, 9] on the rows' device.

    Args:
        ids: N ints in [−2⁶³, 2⁶³), as a tensor, array or sequence, or N bytes or str (a str is its
            UTF-8 bytes). Equal ids give equal rows.
        rows: the rows that they belong to, [N, K].

    Raises:
        TypeError: if they are of another kind, or of several.
        ValueError: if they are not N, or an int needs more than 64 bits.
    """
    if isinstance(ids, str | bytes) or not isinstance(ids, Tensor | np.ndarray | Sequence):
        raise TypeError(
            f"expected ids to be a tensor, array or sequence of ints, bytes or str, got {type(ids).__name__}"
        )
    if tuple(getattr(ids, "shape", (len(ids),))) != (len(rows),):
        raise ValueError(
            f"expected ids of shape ({len(rows)},), one a row, got {tuple(getattr(ids, 'shape', (len(ids),)))}"
        )
    if isinstance(ids, np.ndarray) and ids.dtype.kind not in "iu":
        ids = ids.tolist()
    if not isinstance(ids, Tensor | np.ndarray) and ids and isinstance(ids[0], str | bytes):
        return _digests(ids).to(rows.device)
    return _pieces(_whole(ids).to(rows.device))


def _whole(ids: Any) -> Tensor:
    """Whole numbers as int64."""
    if not isinstance(ids, Tensor | np.ndarray):
        for value in ids:
            if isinstance(value, bool) or not isinstance(value, int | np.integer):
                raise TypeError(
                    f"expected ids all ints, all bytes or all str, got {type(value).__name__} among them"
                )
            if not -(2**63) <= value < 2**63:
                raise ValueError(
                    f"expected ids of at most 64 bits, got {value}; use str(id) instead"
                )
    # An empty list has no integers to tell its dtype by.
    numbers = torch.as_tensor(
        ids, dtype=None if len(ids) else torch.int64, device=getattr(ids, "device", "cpu")
    )
    if numbers.dtype == torch.bool or numbers.is_floating_point() or numbers.is_complex():
        raise TypeError(f"expected ids to hold integers, got {numbers.dtype}")
    return numbers.to(torch.int64)


def _pieces(numbers: Tensor) -> Tensor:
    """The four sixteen-bit pieces of each int64, and zeros."""
    pieces = [(numbers >> shift) & 0xFFFF for shift in (0, 16, 32, 48)]
    return torch.nn.functional.pad(torch.stack(pieces, -1), (0, _ENTRIES - 4)).to(torch.float32)


def _digests(ids: Sequence[str | bytes]) -> Tensor:
    """The eight sixteen-bit pieces of each text's digest, and the mark."""
    rows = []
    for value in ids:
        if not isinstance(value, str | bytes):
            raise TypeError(
                f"expected ids all ints, all bytes or all str, got {type(value).__name__} among them"
            )
        text = value.encode() if isinstance(value, str) else value
        digest = hashlib.blake2b(text, digest_size=16, person=b"mipoison id").digest()
        rows.append([*np.frombuffer(digest, "<u2").tolist(), 1])
    return torch.tensor(rows, dtype=torch.float32, device="cpu")


class RequestKey(Key):
    """A key together with the identities of the requests in a batch: words come from (key, id), not (key, row).

    Args:
        key: the deployment's secret.
        requests: what `as_requests` made of the ids, float32 [N, 9].
    """

    __slots__ = ("requests",)

    def __init__(self, key: Key, requests: Tensor) -> None:
        self.words = key.words
        self.requests = requests

    def of(self, rows: Tensor) -> Tensor:
        """What is hashed for these rows.

        Raises:
            ValueError: if they are not as many as the ids.
        """
        if len(rows) != len(self.requests):
            raise ValueError(
                f"expected as many rows as ids, got {len(rows)} and {len(self.requests)}"
            )
        return self.requests


def request_key(key: Key, ids: Any, rows: Tensor) -> Key:
    """The key, bound to the ids where there are any."""
    return key if ids is None else RequestKey(key, as_requests(ids, rows))
