"""The secret that all randomness of a deployment derives from: made, read, rotated, and never shown."""

from __future__ import annotations

import hashlib
import struct
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from torch import Tensor

from mipoison import key_text
from mipoison.construction import constructor
from mipoison.exporting import eager, exporting, tracing
from mipoison.key_text import SHORTEST, FilePath

Secret: TypeAlias = "int | bytes | bytearray | memoryview | np.integer[Any]"
KeyLike: TypeAlias = "Secret | Key | None"

_MARK: Final = "_process_key_of_mipoison"
# What a hash is of, so that no two purposes share one.
_KEY, _FINGERPRINT = b"mipoison", b"mipoison print"


class Key:
    """The secret of a deployment, hashed to 128 bits; it never shows in ``repr`` and cannot be pickled.

    As a text a key is 32 hexadecimal digits or more, such as ``openssl rand -hex 32`` prints: the bytes of the secret.

    Args:
        secret: 16 bytes or more, such as ``secrets.token_bytes(16)``, as bytes, bytearray or
            memoryview. Or an int, for experiments that must be repeated: whoever tries the small
            ones finds it.

    Raises:
        TypeError: if the secret is neither.
        ValueError: if it has fewer bytes, or they repeat themselves.

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
                f"make one with secrets.token_bytes({SHORTEST}), or of a long text with text.encode()"
            )
        if isinstance(secret, int):
            body = b"int" + secret.to_bytes(secret.bit_length() // 8 + 1, "little", signed=True)
        else:
            secret = bytes(secret)
            if len(secret) < SHORTEST:
                raise ValueError(
                    f"expected key of at least {SHORTEST} bytes, got {len(secret)}: a short one can be guessed; "
                    f"make one with secrets.token_bytes({SHORTEST})"
                )
            if key_text.repeats(secret):
                raise ValueError(
                    "expected key to be random bytes, got bytes that repeat themselves, which can be guessed; make one "
                    f"with secrets.token_bytes({SHORTEST})"
                )
            body = b"raw" + secret
        self._hold(_hashed(body))

    @constructor
    def generate(cls, path: FilePath | None = None) -> Key:
        """A new random key, of 32 bytes.

        Args:
            path: where to keep it: a new file that only its owner can read, for `from_file` or a secret store. None
                keeps it nowhere, for one process and those forked from it: a Key does not tell its secret.

        Raises:
            TypeError: if the path is none.
            OSError: if the file cannot be written, or is there already.

        Example:
            >>> Key.generate() == Key.generate()
            False
        """
        return Key(key_text.drawn() if path is None else key_text.to_new_file(path))

    @constructor
    def from_env(cls, name: str) -> Key:
        """The key that an environment variable holds, as text.

        Args:
            name: of the variable, such as "MIPOISON_KEY".

        Raises:
            TypeError: if the name is no text.
            ValueError: if the variable is not set, or holds anything but at least 32 hexadecimal digits, with spaces
                and line ends around them at most, or digits that repeat themselves. The message does not show them.

        Example:
            >>> import os
            >>> os.environ["A_KEY_OF_MINE"] = "00112233445566778899aabbccddeeff"
            >>> Key.from_env("A_KEY_OF_MINE") == Key(bytes.fromhex(os.environ.pop("A_KEY_OF_MINE")))
            True
        """
        return Key(key_text.from_variable(name))

    @constructor
    def from_file(cls, path: FilePath) -> Key:
        """The key that a file holds, as text, such as a secret that Docker or Kubernetes mounts.

        Who may read the file is not checked, since Kubernetes mounts secrets readable by all users of a container.

        Args:
            path: of the file.

        Raises:
            TypeError: if the path is none.
            ValueError: if the file holds no such text, see `from_env`.
            OSError: if it cannot be read.
        """
        return Key(key_text.from_path(path))

    def fingerprint(self) -> str:
        """16 hexadecimal digits that tell keys apart in logs; the same in every process.

        They are a hash, from which no random key can be computed. Whoever tries all small ints, or the words of a
        dictionary, finds a key that was made of one.

        Example:
            >>> Key(bytes.fromhex("00112233445566778899aabbccddeeff")).fingerprint()
            '6ac69062ab98be7f'
        """
        body = b"".join(word.to_bytes(4, "little") for word in self.words)
        return hashlib.blake2b(body, digest_size=8, person=_FINGERPRINT).hexdigest()

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
        self._lifted = torch.frombuffer(bytearray(struct.pack("=4q", *words)), dtype=torch.int64)

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
            "mipoison.load(file, key=...), which is given the key anew; workers read it by mipoison.Deferred(file)"
        )

    def __copy__(self) -> Key:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Key:
        return self


def _hashed(body: bytes) -> list[int]:
    """Four 32-bit words."""
    digest = hashlib.blake2b(body, digest_size=16, person=_KEY).digest()
    return list(struct.unpack("<4I", digest))


def _drawn_once() -> Key:
    """One secret for each process, kept where it survives a second import of the package."""
    drawn = Key(key_text.drawn())
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
