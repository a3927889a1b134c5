"""Keying on identities of requests that the caller gives, instead of the rows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mipoison.keys import Key
from mipoison.ops.arrays import as_array, as_tensor
from mipoison.ops.numbers import scalar

Ids: TypeAlias = (
    "Tensor | npt.NDArray[Any] | Sequence[int] | Sequence[str] | Sequence[bytes] | None"
)
# An id becomes a row with sixteen bits an entry, which float32 holds exactly, so that every row hash works
# on ids. An int takes four entries; the digest of a text takes eight, and a ninth marks it.
_ENTRIES: Final = 9
# Kinds of arrays whose entries need not be checked one by one.
_PLAIN: Final = "biuf"


def as_requests(ids: Any, rows: Tensor) -> Tensor:
    """Ids as rows for the row hash, float32 [N, 9] on the rows' device.

    Args:
        ids: N ints in [−2⁶³, 2⁶³), as a tensor, array, Series or sequence, or N bytes or str (a str
            is its UTF-8 bytes). Equal ids give equal rows.
        rows: the rows that they belong to, [N, K].

    Raises:
        TypeError: if they are of another kind, or of several.
        ValueError: if they are not N, or an int needs more than 64 bits.
    """
    given: Any = ids
    if isinstance(ids, list | tuple):
        # NumPy would convert mixed types to one.
        given = [scalar(value) for value in ids]
    else:
        given = as_tensor("ids", ids) if isinstance(ids, Tensor) else as_array("ids", ids)
    shape = (len(given),) if isinstance(given, list) else tuple(given.shape)
    if shape != (len(rows),):
        raise ValueError(f"expected ids of shape ({len(rows)},), one a row, got {shape}")
    if isinstance(given, np.ndarray) and given.dtype.kind not in _PLAIN:
        given = [scalar(value) for value in given.tolist()]
    if not isinstance(given, list):
        return _pieces(_as_int64(as_tensor("ids", given)).to(rows.device))
    if given and isinstance(given[0], str | bytes):
        return _digests(given).to(rows.device)
    return _pieces(_listed(given).to(rows.device))


def _as_int64(numbers: Tensor) -> Tensor:
    """Whole numbers as int64."""
    if numbers.dtype == torch.bool or numbers.is_floating_point() or numbers.is_complex():
        lacking = numbers.is_floating_point() and bool(numbers.isnan().any())
        got = "missing ones" if lacking else str(numbers.dtype)
        raise TypeError(f"expected ids to hold integers, got {got}")
    signed = numbers.to(torch.int64)
    if numbers.dtype == torch.uint64 and bool((signed < 0).any()):
        raise ValueError(
            "expected ids of at most 64 bits with a sign, got 2**63 or more; use str(id) instead"
        )
    return signed


def _listed(ids: Sequence[Any]) -> Tensor:
    """Python's ints as int64."""
    for value in ids:
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(
                f"expected ids all ints, all bytes or all str, got {type(value).__name__} among them"
            )
        if not -(2**63) <= value < 2**63:
            raise ValueError(f"expected ids of at most 64 bits, got {value}; use str(id) instead")
    return torch.tensor(ids, dtype=torch.int64, device="cpu")


def _pieces(numbers: Tensor) -> Tensor:
    """The four sixteen-bit pieces of each int64, and zeros."""
    pieces = [(numbers >> shift) & 0xFFFF for shift in (0, 16, 32, 48)]
    return torch.nn.functional.pad(torch.stack(pieces, -1), (0, _ENTRIES - 4)).to(torch.float32)


def _digests(ids: Sequence[str | bytes]) -> Tensor:
    """The eight sixteen-bit pieces of each text's digest, and the mark."""
    rows, kind = [], bytes if isinstance(ids[0], bytes) else str
    for value in ids:
        if not isinstance(value, kind):
            raise TypeError(
                f"expected ids all ints, all bytes or all str, got {type(value).__name__} among them"
            )
        # File names that are no UTF-8 are strings with surrogates.
        text = value.encode(errors="surrogatepass") if isinstance(value, str) else value
        digest = hashlib.blake2b(text, digest_size=16, person=b"mipoison id").digest()
        rows.append([*np.frombuffer(digest, "<u2").tolist(), 1])
    return torch.tensor(rows, dtype=torch.float32, device="cpu")


class RequestKey(Key):
    """A key with the identities of the requests in a batch: words derive from (key, id) instead of (key, row).

    Args:
        key: the deployment's secret.
        requests: the ids as `as_requests` returns them, float32 [N, 9].
    """

    __slots__ = ("requests",)

    def __init__(self, key: Key, requests: Tensor) -> None:
        self.words, self._lifted = key.words, key._lifted
        self.requests = requests

    def of(self, rows: Tensor) -> Tensor:
        """The rows of ids to hash in place of these rows.

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
