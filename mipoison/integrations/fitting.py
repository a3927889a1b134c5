"""Fit the defense of a classifier on rows of the defender's own, with the settings that an adapter was given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mipoison.defenses import Defense, Deferred
from mipoison.keys import Key


def require_settings(
    defense: Any,
    *,
    options: Mapping[str, Any] | None,
    held_out: float | None,
    key: Any,
    key_env: str | None,
    defender: Any,
) -> None:
    """Checks that a defense to be fitted has what to be fitted on, and that a fitted one is given nothing to fit it.

    Raises:
        TypeError: if the defense is neither a fitted one nor a class that fits one.
        ValueError: for settings that are missing or would be dropped.
    """
    fits = isinstance(defense, type) and issubclass(defense, Defense) and hasattr(defense, "fit")
    if not fits and not isinstance(defense, Defense | Deferred):
        raise TypeError(
            "expected defense to be a fitted one, a mipoison.Deferred, or a class with a fit such as mipoison.LPA, got "
            f"{getattr(defense, '__name__', type(defense).__name__)}"
        )
    rows = [
        name
        for name, value in (("defender", defender), ("held_out", held_out))
        if value is not None
    ]
    others = [
        name
        for name, value in (("options", options), ("key", key), ("key_env", key_env))
        if value is not None
    ]
    if not fits and rows + others:
        raise ValueError(
            f"expected nothing that fits a defense beside a fitted one, got {', '.join(rows + others)}; leave it out"
        )
    if fits and len(rows) != 1:
        raise ValueError(
            f"expected rows to fit the defense on, got {' and '.join(rows) or 'none'}; pass fit(X, y, defender=...) or "
            "held_out=..., of rows that are not private, or a fitted defense"
        )
    if key is not None and key_env is not None:
        raise ValueError("expected key or key_env, got both; leave one of them out")


def fitted(
    kind: Any,
    outputs_of: Callable[[Any], Any],
    defender: Any,
    *,
    options: Mapping[str, Any] | None,
    key: Any,
    key_env: str | None,
) -> Defense:
    """The defense that a class fits to the defender's inputs, and to the classifier's probabilities of them.

    Raises:
        TypeError: as the class's `fit`.
        ValueError: as the class's `fit`, or if the variable holds no key.
    """
    held = key if key_env is None else Key.from_env(key_env)
    secret = {} if held is None else {"key": held}
    # Sparse matrices of scipy, and tables of several dtypes, which make arrays of objects.
    inputs = np.asarray(defender.toarray() if hasattr(defender, "toarray") else defender)
    inputs = inputs.astype(np.float64) if inputs.dtype == object else inputs
    made: Defense = kind.fit(outputs_of(defender), inputs, **secret, **(options or {}))
    return made
