"""A user's own held-out vectors, from one file, and the certificate of a saved defense on them."""

from __future__ import annotations

from pathlib import Path

from mipoison.certificates import Certificate, certify
from mipoison.defenses import load
from mipoison.defenses.saving import MissingKey
from mipoison.eval.data.arrays import read_npz, scaled
from mipoison.keys import Key

_HOW = "numpy.savez(FILE, outputs=vectors, inputs=inputs)"
_PREFIX = "npz:"


def certify_file(
    vectors: str, defense: Path, *, key_file: Path | None = None, confidence: float = 0.95
) -> Certificate:
    """Certifies a saved defense on a file's held-out vectors.

    Args:
        vectors: "npz:FILE", with outputs [N, K] and inputs [N, ...], in 0–1 or uint8; if it has groups [N], rows of one
            number are copies of one input; every other array [N] is a secret of its name.
        defense: file that the defense's `save` wrote.
        key_file: file with the key of a keyed defense, as text; see `Key.from_file`.
        confidence: of each bound, in [0.5, 1).

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if a file holds something else, or what `mipoison.certify` refuses.
    """
    if not vectors.startswith(_PREFIX):
        raise ValueError(f"vectors: expected {_PREFIX}FILE, got {vectors!r}")
    path = Path(vectors.removeprefix(_PREFIX))
    arrays = read_npz(path, f"vectors '{vectors}'", ("outputs", "inputs"), _HOW)
    try:
        served = load(defense, key=None if key_file is None else Key.from_file(key_file))
    except MissingKey:
        raise ValueError(
            f"{defense.name}: expected the key of this defense, got none; say with --key-file where it is"
        ) from None
    outputs, inputs = arrays.pop("outputs"), scaled(arrays.pop("inputs"), path.name, "inputs")
    groups = arrays.pop("groups", None)
    try:
        return certify(
            served, outputs, inputs, confidence=confidence, secrets=arrays, groups=groups
        )
    except TypeError as error:
        # Arrays of a wrong type are a mistake of the file.
        raise ValueError(f"{path.name}: {error}") from error
