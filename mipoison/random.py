"""Keyed counter-based randomness: Philox4x32-10 on a hash of the row (Salmon et al., SC 2011).

All randomness of a defense derives from (key, row), so that a repeated query gets the same answer
and teaches nothing. Only integer arithmetic is used: every backend draws the same bits. Philox is a
statistical generator, not a cryptographic pseudo-random function.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from torch import Tensor

from mipoison.exporting import eager, exporting, tracing

Secret: TypeAlias = "int | bytes | bytearray | memoryview | np.integer[Any]"
KeyLike: TypeAlias = "Secret | Key | None"

# Bytes of a secret that cannot be guessed.
_SHORTEST: Final = 16

_MARK: Final = "_process_key_of_mipoison"

_MASK32: Final = 0xFFFFFFFF
_PHILOX_M0: Final = 0xD2511F53
_PHILOX_M1: Final = 0xCD9E8D57
_PHILOX_W0: Final = 0x9E3779B9
_PHILOX_W1: Final = 0xBB67AE85
_GOLDEN64: Final = 0x9E3779B97F4A7C15
_MIX_A: Final = 0xBF58476D1CE4E5B9
_MIX_B: Final = 0x94D049BB133111EB
# The float32 pattern of 2⁻¹⁰⁰: smaller entries count as this one.
_FLOOR: Final = 27 << 23
_CELLS: Final = 4
# Cells are wider by up to this many powers of two, the wider the row's logarithms range.
_WIDEST: Final = 6


class Key:
    """The secret of a deployment, hashed to 128 bits; it never shows in ``repr`` and cannot be pickled.

    Args:
        secret: 16 bytes or more, such as ``secrets.token_bytes(16)``, as bytes, bytearray or
            memoryview. Or an int, for experiments that must be repeated: whoever tries the small
            ones finds it.

    Raises:
        TypeError: if the secret is neither.
        ValueError: if it has fewer bytes.

    Example:
        >>> Key(7) == Key(7), Key(7) == Key(8), Key(7)
        (True, False, Key(<hidden>))
    """

    __slots__ = ("_lifted", "words")

    def __init__(self, secret: Secret) -> None:
        if isinstance(secret, np.integer):
            secret = int(secret)
        if isinstance(secret, bool) or not isinstance(secret, int | bytes | bytearray | memoryview):
            raise TypeError(
                f"expected key to be an int, bytes or None, got {type(secret).__name__}; "
                f"make one with secrets.token_bytes({_SHORTEST}), or of a long text with text.encode()"
            )
        if isinstance(secret, int):
            body = b"int" + secret.to_bytes(secret.bit_length() // 8 + 1, "little", signed=True)
        else:
            secret = bytes(secret)
            if len(secret) < _SHORTEST:
                raise ValueError(
                    f"expected key of at least {_SHORTEST} bytes, got {len(secret)}: a short one can be guessed; "
                    f"make one with secrets.token_bytes({_SHORTEST})"
                )
            body = b"raw" + secret
        self._hold(_hashed(body))

    @classmethod
    def public(cls, name: bytes) -> Key:
        """A key that is not secret, for draws while a defense is fitted."""
        return cls._of(_hashed(b"raw" + name))

    @classmethod
    def _of(cls, words: list[int]) -> Key:
        key = cls.__new__(cls)
        key._hold(words)
        return key

    def _hold(self, words: list[int]) -> None:
        """Stores the words and a tensor of them, made from a buffer so that it is real even while torch is tracing."""
        self.words = words
        buffer = bytearray(np.array(words, np.int64))
        self._lifted = torch.frombuffer(buffer, dtype=torch.int64)

    def tensor(self) -> Tensor:
        """The words as int64 [4] on the CPU: as a tensor they appear in no trace, graph or profile of an operator.

        Raises:
            RuntimeError: in a program that is made to be saved.
        """
        if eager():
            return self._lifted
        if torch.compiler.is_dynamo_compiling() and not exporting():
            # An existing tensor is an input of the graph at each call; a new one would be a constant of the graph, and
            # of the compiler's cache files.
            return self._lifted
        if exporting() or tracing():
            raise RuntimeError(
                "expected no key under torch.export, torch.jit.trace and make_fx, got one: the program would hold it, "
                "and who has the program could undo what it hides; export the model alone, and call the operation on "
                "its outputs"
            )
        # Of the kind that the mode at work wants.
        return torch.tensor(self.words, dtype=torch.int64, device="cpu")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and self.words == other.words

    def __hash__(self) -> int:
        return hash(tuple(self.words))

    def __repr__(self) -> str:
        return "Key(<hidden>)"

    def __reduce__(self) -> str:
        raise TypeError(
            "a Key is never serialised; write the defense with defense.save(file) and read it with "
            "mipoison.load(file, key=...), which is given the key anew"
        )

    def __copy__(self) -> Key:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Key:
        return self


def _hashed(body: bytes) -> list[int]:
    """Four 32-bit words."""
    digest = hashlib.blake2b(body, digest_size=16, person=b"mipoison").digest()
    return [int.from_bytes(digest[i : i + 4], "little") for i in range(0, 16, 4)]


def _drawn_once() -> Key:
    """One secret for each process, kept where it survives a second import of the package."""
    drawn = Key(secrets.token_bytes(32))
    # (An instance of this import's class; the stored key may be of an earlier import.)
    return Key._of(vars(torch.ops.mipoison).setdefault(_MARK, drawn).words)


_PROCESS_KEY: Final = _drawn_once()


def resolve_key(key: KeyLike) -> Key:
    """Hashes the user's key; ``None`` means one secret drawn once per process, at the import.

    Forked children inherit it, so that workers of one server agree.
    """
    if key is None:
        return _PROCESS_KEY
    return key if isinstance(key, Key) else _hashed_key(key)


def _hashed_key(secret: Secret) -> Key:
    return Key(secret)


# The mark of torch.compiler.assume_constant_result, whose decorator would import the compiler, and with it triton. The
# function is only called with arguments that every version of torch treats as constants.
_hashed_key._dynamo_marked_constant = True  # type: ignore[attr-defined]


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], k0: int, k1: int) -> Tensor:
    """Philox4x32-10: four 32-bit words for each counter.

    Args:
        counter: four int64 tensors of one shape, entries in [0, 2³²).
        k0: first key word.
        k1: second key word.

    Returns:
        int64 tensor of the counters' shape with a last dimension of 4, entries in [0, 2³²).
    """
    c0, c1, c2, c3 = counter
    for _ in range(10):
        # int64 products wrap modulo 2⁶⁴, which keeps all bits of the unsigned 32 x 32 product.
        first, second = c0 * _PHILOX_M0, c2 * _PHILOX_M1
        c0, c1, c2, c3 = (
            ((second >> 32) & _MASK32) ^ c1 ^ k0,
            second & _MASK32,
            ((first >> 32) & _MASK32) ^ c3 ^ k1,
            first & _MASK32,
        )
        k0, k1 = (k0 + _PHILOX_W0) & _MASK32, (k1 + _PHILOX_W1) & _MASK32
    return torch.stack((c0, c1, c2, c3), dim=-1)


def _signed64(x: int) -> int:
    """The int64 with the bits of x modulo 2⁶⁴."""
    x &= (1 << 64) - 1
    return x - (1 << 64) if x >> 63 else x


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Logical right shift of int64; torch's own is arithmetic."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    """SplitMix64's finaliser."""
    x = (x ^ _shift_right(x, 30)) * _signed64(_MIX_A)
    x = (x ^ _shift_right(x, 27)) * _signed64(_MIX_B)
    return x ^ _shift_right(x, 31)


def _places(count: int, seed: int, salt: int, device: torch.device) -> Tensor:
    """Numbers to mix, int64 [count], different for every seed and salt."""
    position = torch.arange(1, count + 1, device=device, dtype=torch.int64)
    return position * _signed64(_GOLDEN64) + _signed64((seed << 32) + salt)


def coarse_cells(p: Tensor, grid: float) -> Tensor:
    """The grid cell of each entry, int64 [N, K]."""
    inverse = torch.tensor(1.0 / grid, dtype=torch.float32, device=p.device)
    return torch.round(p.to(torch.float32) * inverse).to(torch.int64)


def canonical_cells(p: Tensor, seed: int) -> Tensor:
    """The canonical cells of rows, which a classifier's rounding noise hardly ever changes: int64 [N, 4].

    A classifier's answer to one input differs in its last bits from batch to batch: in the logarithms of its entries by
    about 1e-7 of their range. If keyed words depended on those bits, one input would get several answers.

    1. The pattern of a float32 number, read as an integer, is a piecewise linear log2; `depth` is how far it lies above
       that of 2⁻¹⁰⁰.
    2. Four sums of the depths, with keyed weights of about mean zero, are cut into cells at keyed places.
    3. In a typical direction cells are 2ᵉ/50 to 2ᵉ/25 octaves wide, where 2ᵉ is the largest power of two within the
       row's range, the top depth less the mean depth. Such noise then moves one row in 10⁴ to 10⁵ into another cell,
       and rows of a confident classifier, which differ in the logarithms of small entries, lie in different cells.

    All arithmetic is in integers, so every backend finds the same cells. float64 rows are rounded to float32 first, so
    that all dtypes of one value share their cells.
    """
    k = p.shape[-1]
    pattern = p.to(torch.float32).contiguous().view(torch.int32).to(torch.int64)
    depth = pattern.clamp_min(_FLOOR) - _FLOOR
    byte = 8 * torch.arange(_CELLS, device=p.device, dtype=torch.int64)
    weights = ((_mix(_places(k, seed, 1, p.device)).unsqueeze(-1) >> byte) & 255) - 128
    sums = (depth.unsqueeze(-1) * weights).sum(-2)
    octaves = torch.arange(24, 24 + _WIDEST, device=p.device, dtype=torch.int64)
    total = k * depth.amax(-1, keepdim=True) - depth.sum(-1, keepdim=True)
    shift = 24 + k.bit_length() // 2 + (total >= k << octaves).sum(-1, keepdim=True)
    offset = _mix(_places(_CELLS, seed, 2, p.device)) & ((1 << shift) - 1)
    return (sums + offset) >> shift


def row_hash(p: Tensor, seed: int, grid: float) -> Tensor:
    """Order-independent 64-bit sum over j of mix(j, cell_j); int64 [N].

    The cells are those of the entries on the grid; with grid 0 the canonical cells.
    """
    cells = coarse_cells(p, grid) if grid > 0 else canonical_cells(p, seed)
    return _mix(cells + _places(cells.shape[-1], seed, 0, p.device)).sum(-1)


def row_words(p: Tensor, key: Tensor, draw: int, grid: float, words: int) -> Tensor:
    """The row's keyed random words, int64 [N, words] in [0, 2³²), under the four words of a key.

    Words 4i … 4i+3 are Philox under key (k0, k1) at counter (row hash, draw + i, k2); k3 seeds the
    hash.
    """
    k0, k1, k2, k3 = key.tolist()
    h = row_hash(p, k3, grid)
    blocks = (words + 3) // 4
    shape = (*h.shape, blocks)
    draws = (torch.arange(draw, draw + blocks, device=p.device) & _MASK32).expand(shape)
    low, high = h & _MASK32, _shift_right(h, 32)
    counter = (
        low.unsqueeze(-1).expand(shape),
        high.unsqueeze(-1).expand(shape),
        draws,
        torch.full_like(draws, k2),
    )
    return philox(counter, k0, k1).flatten(-2)[..., :words]


def uniforms(words: Tensor) -> Tensor:
    """Words in [0, 2³²) to float64 strictly inside (0, 1): (w + ½)/2³²."""
    return (words.to(torch.float64) + 0.5) * 2.0**-32


def mulhi32(word: Tensor, bound: Tensor | int) -> Tensor:
    """⌊word·bound/2³²⌋: an integer below bound < 2³¹ from a 32-bit word."""
    return (word * bound) >> 32
