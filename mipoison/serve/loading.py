"""The defense that the settings name, with its key; every mistake is found before the port opens."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import mipoison as mp
from mipoison.defenses.base import Defense
from mipoison.defenses.saving import MissingKey
from mipoison.defenses.wire import require_wire
from mipoison.keys import Key
from mipoison.serve.config.settings import Guard, Settings
from mipoison.serve.meter import Meter
from mipoison.serve.readings import Readings


@dataclass(frozen=True)
class Loaded:
    """A defense, ready to serve.

    Args:
        defense: of the file.
        fingerprint: of the key, by which workers and deployments are compared; None without a key.
        digest: of the file's bytes; likewise.
    """

    defense: Defense
    fingerprint: str | None
    digest: str = ""

    @property
    def identity(self) -> str:
        """Of what answers are made of: equal in two processes if they answer alike."""
        return f"{self.fingerprint} {self.digest}"


def require_same(loaded: Loaded, identity: str) -> None:
    """Raises ValueError unless this key and file are those of another process.

    Args:
        loaded: of this process.
        identity: what the other process has loaded.
    """
    changed = [
        name
        for name, mine, other in zip(
            ("key", "file"), loaded.identity.split(), identity.split(), strict=True
        )
        if mine != other
    ]
    if changed:
        raise ValueError(
            f"expected the key and the file of the defense that the proxy was started with, got another "
            f"{' and another '.join(changed)}, under which this worker would answer otherwise; restart the proxy"
        )


def load(settings: Settings) -> Loaded:
    """Reads the key and the file.

    Raises:
        ValueError: for a missing, short or needless key, another kind of file, one that changes while it is read, or
            settings that do not fit the defense.
        OSError: if a file cannot be read.
    """
    guard, answers = settings.defense, settings.answers
    key = _key(guard)
    digest = _digest(guard.file)
    try:
        defense = mp.load(str(guard.file), key=key)
    except MissingKey:
        raise ValueError(
            f"[defense]: expected the key of {guard.file.name}, got none; say with key_env or key_file where it is"
        ) from None
    if _digest(guard.file) != digest:
        raise ValueError(
            "[defense] file: expected a file that stays as it is while it is read, got a change; start again"
        )
    if guard.identity_header is not None and key is None:
        raise ValueError(
            f"[defense] identity_header: expected a defense with a key, got {defense.name}, which has none and answers "
            "all accounts alike; leave it out"
        )
    try:
        require_wire(defense, answers.decimals, answers.top_k)
    except ValueError as error:
        raise ValueError(f"[answers]: {error}") from None
    k = defense.classes
    if k is not None and answers.labels and len(answers.labels) != k:
        raise ValueError(
            f"[answers] labels: expected the {k} classes of the defense, got {len(answers.labels)}"
        )
    meter_of(guard, defense)
    return Loaded(defense, None if key is None else key.fingerprint(), digest)


def meter_of(
    guard: Guard, defense: Defense, callbacks: Sequence[Callable[[Readings], object]] = ()
) -> Meter:
    """A meter around the defense.

    Args:
        guard: what is done on drift, and over how many rows it is measured.
        defense: of the file.
        callbacks: told when drift begins and ends.

    Raises:
        ValueError: if drift is to be acted on, and the defense does not tell what fresh rows do.
    """
    try:
        return Meter(
            defense, window=guard.drift_window, on_drift=guard.on_drift, callbacks=callbacks
        )
    except ValueError:
        raise ValueError(
            f'[defense] on_drift: expected "continue" with a defense that does not tell what fresh rows do, got '
            f"{guard.on_drift!r}; fit it anew with this version"
        ) from None


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _key(guard: Guard) -> Key | None:
    if guard.key_env is not None:
        return Key.from_env(guard.key_env)
    if guard.key_file is not None:
        return Key.from_file(guard.key_file)
    return None
