"""The defense that the settings name, with its key; every mistake is found before the port opens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mipoison as mp
from mipoison.defenses.base import Defense
from mipoison.keys import Key
from mipoison.serve.config.settings import Guard, Settings


@dataclass(frozen=True)
class Loaded:
    """A defense, ready to serve.

    Args:
        defense: of the file.
        served: what is called: the defense, or a meter around it.
        fingerprint: of the key, by which workers and deployments are compared; None without a key.
    """

    defense: Defense
    served: Any
    fingerprint: str | None


def load(settings: Settings) -> Loaded:
    """Reads the key and the file.

    Raises:
        ValueError: for a missing, short or needless key, another kind of file, or settings that do not fit the defense.
        OSError: if a file cannot be read.
    """
    guard, answers = settings.defense, settings.answers
    key = _key(guard)
    defense = mp.load(str(guard.file), key=key)
    if guard.identity_header is not None and key is None:
        raise ValueError(
            f"[defense] identity_header: expected a defense with a key, got {defense.name}, which has none and answers "
            "all accounts alike; leave it out"
        )
    k = defense.classes
    if k is not None and answers.labels and len(answers.labels) != k:
        raise ValueError(
            f"[answers] labels: expected the {k} classes of the defense, got {len(answers.labels)}"
        )
    if k is not None and answers.top_k is not None and answers.top_k > k:
        raise ValueError(
            f"[answers] top_k: expected at most the {k} classes of the defense, got {answers.top_k}"
        )
    return Loaded(defense, defense, None if key is None else key.fingerprint())


def _key(guard: Guard) -> Key | None:
    if guard.key_env is not None:
        return Key.from_env(guard.key_env)
    if guard.key_file is not None:
        return Key.from_file(guard.key_file)
    return None
