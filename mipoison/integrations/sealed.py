"""Keep the key of a defense out of what an object shows of itself, and out of how it is pickled."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from mipoison.defenses import Defense, load
from mipoison.key_text import as_name
from mipoison.keys import Key

# Of what is pickled: by which the key of the fit is known again.
_FINGERPRINT: Final = "_fingerprint"


class _Text:
    """Stands for a text that was given as a key: it would show, and is forgotten."""

    def __repr__(self) -> str:
        return "<a text, which is no key>"


class Sealed:
    """An object with the attributes key, key_env, defense and options, and defense_ once it is fitted.

    A raw key becomes a `Key`, which does not show, as soon as it is set; a text is forgotten, and refused by
    `require_sealed`. A defense that was fitted here is pickled without its key, which is read from the variable key_env
    where it is unpickled.
    """

    key: Any
    key_env: Any
    defense: Any
    options: Any

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "key" and isinstance(value, str):
            # Says so of what looks like a key. Any other text waits for `fit`: scikit-learn wants no errors here.
            as_name(value)
            value = _Text()
        if name == "key" and isinstance(value, int | np.integer | bytes | bytearray | memoryview):
            value = Key(value)
        elif name == "key_env" and isinstance(value, str):
            # Refuses what looks like the key itself, and does not show it.
            as_name(value)
        elif name == "options":
            _require_no_key(value)
        super().__setattr__(name, value)

    def require_sealed(self) -> None:
        """Checks what may have been set without a check, before anything is fitted.

        Raises:
            TypeError: for a text as key.
            ValueError: for a key that was put into options.
        """
        if isinstance(self.key, _Text):
            raise TypeError(
                "expected key to be an int, bytes or None, got a text, which would show; pass the name of the "
                "environment variable that holds it as key_env"
            )
        _require_no_key(self.options)

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled.

        Raises:
            TypeError: for a key that no variable holds.
            ValueError: for a key that was put into options.
        """
        _require_no_key(self.options)
        state: dict[str, Any] = super().__getstate__()  # type: ignore[assignment]
        fitted = state.get("defense_") if isinstance(self.defense, type) else None
        keyed = isinstance(fitted, Defense) and fitted._key is not None
        if self.key is not None or (keyed and self.key_env is None):
            raise TypeError(
                f"expected key_env to pickle or copy this {type(self).__name__}, got "
                f"{'none' if self.key is None else 'the key itself'}, which is never serialised; pass the name of a "
                "variable that holds the key, or a mipoison.Deferred as the defense"
            )
        if isinstance(fitted, Defense):
            file = io.BytesIO()
            fitted.save(file)
            state = state | {"defense_": file.getvalue()}
            if fitted._key is not None:
                state[_FINGERPRINT] = fitted._key.fingerprint()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Reads the key of a keyed defense.

        Raises:
            ValueError: if key_env holds none, or another one than the defense was fitted under.
        """
        saved = state.get("defense_")
        made_under = state.get(_FINGERPRINT)
        state = {name: value for name, value in state.items() if name != _FINGERPRINT}
        if isinstance(saved, bytes):
            key = None if state["key_env"] is None else Key.from_env(state["key_env"])
            if key is not None and made_under is not None and key.fingerprint() != made_under:
                raise ValueError(
                    f"expected the key with the fingerprint {made_under} in the environment variable "
                    f"{state['key_env']}, got {key.fingerprint()}, under which every answer would be another; set the "
                    "variable to the key of the fit, or fit anew"
                )
            state = state | {"defense_": load(io.BytesIO(saved), key=key)}
        super().__setstate__(state)  # type: ignore[misc]


def _require_no_key(options: Any) -> None:
    if isinstance(options, Mapping) and "key" in options:
        raise ValueError("expected no key in options, which show, got one; pass key or key_env")
