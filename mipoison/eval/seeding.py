"""Give every random choice of an experiment a stream of its own.

Target, defense and adversary must not share a seed: a surrogate that starts from the adversary's
own initial weights would flatter the defense.
"""

from __future__ import annotations

import hashlib

from mipoison.eval.scalars import whole


def derive_seed(seed: int, *purpose: str) -> int:
    """Hashes an experiment's seed and a purpose to an independent 63-bit seed.

    Args:
        seed: the experiment's seed.
        purpose: what the stream is for, e.g. ``"target"``.

    Returns:
        An integer in [0, 2^63), the same on every machine.

    Example:
        >>> derive_seed(0, "target") == derive_seed(0, "adversary")
        False
    """
    digest = hashlib.blake2b(repr((whole("seed", seed), *purpose)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
