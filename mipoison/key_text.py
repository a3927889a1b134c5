"""Keys as text, as deployments keep them: in environment variables and files.

A key is written as hexadecimal digits, two a byte. Where a text is refused, neither the message nor a local variable of
the frame that raises holds it: both end in logs.
"""

from __future__ import annotations

import os
import secrets
import string
from os import PathLike
from typing import Final, TypeAlias

FilePath: TypeAlias = "str | PathLike[str]"

# Bytes of a secret that cannot be guessed, and of one that is made here.
SHORTEST: Final = 16
_MADE: Final = 32
# A longer file is something else.
_LONGEST: Final = 4096
# Of 16 random bytes more are different, but for one key in 10¹¹.
_FEWEST_DIFFERENT: Final = 8
_DIGITS: Final = frozenset(string.hexdigits)
_MAKE: Final = "make one with: openssl rand -hex 32"


def from_variable(name: str) -> bytes:
    """The secret in an environment variable.

    Raises:
        TypeError: if the name is no text.
        ValueError: if the variable is not set, or holds no key.
    """
    if as_name(name) not in os.environ:
        raise ValueError(
            f"expected a key in the environment variable {name}, got none: it is not set; {_MAKE}"
        )
    secret, fault = _parsed(os.environ[name])
    if fault:
        raise ValueError(
            f"expected a key of {2 * SHORTEST} hexadecimal digits or more in the environment variable {name}, got "
            f"{fault}; {_MAKE}"
        )
    return secret


def from_path(path: FilePath) -> bytes:
    """The secret in a file.

    Raises:
        TypeError: if the path is none.
        ValueError: if the file holds no key.
        OSError: if it cannot be read.
    """
    where = as_path(path)
    try:
        secret, fault = _read(where)
    except FileNotFoundError:
        shown = "something that looks like the key itself" if _is_key(where) else repr(where)
        raise FileNotFoundError(
            f"expected the path of a file that holds a key, got {shown}, where none is; {_MAKE}"
        ) from None
    if fault:
        raise ValueError(
            f"expected a key of {2 * SHORTEST} hexadecimal digits or more in {where!r}, got {fault}; {_MAKE}"
        )
    return secret


def to_new_file(path: FilePath) -> bytes:
    """Draws a secret and writes it to a new file that only its owner can read.

    Raises:
        TypeError: if the path is none.
        OSError: if it cannot be written, or something is there already.
    """
    where, secret = as_path(path), drawn()
    try:
        descriptor = os.open(where, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise FileExistsError(
            f"expected a path where no file is, got {where!r}: a new key in its place would change every answer; read "
            "it with mipoison.Key.from_file, or choose another path"
        ) from None
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as stream:
            stream.write(secret.hex() + "\n")
            stream.flush()
            os.fsync(stream.fileno())
    except BaseException:
        # A part of a key would be another key.
        os.unlink(where)
        raise
    return secret


def drawn() -> bytes:
    """A new secret."""
    return secrets.token_bytes(_MADE)


def as_name(name: str) -> str:
    """The name of an environment variable.

    Raises:
        TypeError: if it is no text.
        ValueError: if no variable can have it, or it is a key itself, which is not shown.
    """
    if not isinstance(name, str):
        raise TypeError(
            f"expected the name of an environment variable, got {type(name).__name__}; pass a text such as "
            "'MIPOISON_KEY'"
        )
    if _is_key(name):
        raise ValueError(
            "expected the name of the environment variable that holds the key, got what looks like the key; pass the "
            "name, such as 'MIPOISON_KEY'"
        )
    if not name or "=" in name or "\0" in name:
        # (What follows a "=" may be the key.)
        got = "one with '=' or a null character" if name else "an empty text"
        raise ValueError(
            f"expected the name of the environment variable that holds the key, got {got}, which no variable has; pass "
            "the name alone, such as 'MIPOISON_KEY'"
        )
    return name


def as_path(path: FilePath) -> str:
    """A path as a text.

    Raises:
        TypeError: if it is none.
    """
    if not isinstance(path, str | PathLike):
        raise TypeError(f"expected path to be a text or a pathlib.Path, got {type(path).__name__}")
    return os.fsdecode(path)


def _read(path: str) -> tuple[bytes, str]:
    """What `_parsed` finds in a file."""
    with open(path, "rb") as stream:
        text = stream.read(_LONGEST + 1)
    if len(text) > _LONGEST:
        return b"", f"more than {_LONGEST} bytes"
    return _parsed(text.decode("latin-1"))


def _is_key(text: str) -> bool:
    return not _parsed(text)[1]


def _parsed(text: str) -> tuple[bytes, str]:
    """The secret that a text stands for, and what is wrong with the text, in words that do not show it."""
    digits = text.strip()
    if not digits:
        return b"", "an empty text"
    if not set(digits) <= _DIGITS:
        return b"", "other characters"
    if len(digits) % 2:
        return b"", f"an odd number of them, {len(digits)}"
    secret = bytes.fromhex(digits)
    if len(secret) < SHORTEST:
        return b"", f"{len(digits)}, which can be guessed"
    if repeats(secret):
        return b"", "digits that repeat themselves, which can be guessed"
    return secret, ""


def repeats(secret: bytes) -> bool:
    """Whether a secret has few different bytes, or is a shorter one several times."""
    # (A text that repeats itself stands in its double elsewhere than at the ends.)
    return len(set(secret)) < _FEWEST_DIFFERENT or (secret + secret).find(secret, 1) < len(secret)
