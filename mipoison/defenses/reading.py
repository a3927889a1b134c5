"""Find the confidence vectors in what a model returns, and refuse where they cannot be told for sure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from torch import Tensor

from mipoison.ops.validation import as_rows

# What a model gives, and the keys or attributes that it is read from.
NAMES: Final[dict[str, tuple[str, ...]]] = {
    "probabilities": ("probabilities", "probs"),
    "logits": ("logits",),
}
GIVES: Final = tuple(NAMES)
_WRAP: Final = (
    "wrap the model so that it returns one tensor or array [N, K], as in lambda x: model(x)"
)


def answers_of(returned: Any, gives: str | None) -> tuple[Any, str | None]:
    """The rows among what a model returns.

    - A tensor, an array or another object with `__array__` is the rows.
    - Of a mapping, or an object with attributes, as models of Hugging Face return them: the entry named "logits" where
      the model gives logits, and "probabilities" or "probs" where it gives probabilities.
    - Of a tuple or list: the first entry, if it is [N, K] and no other entry is a matrix of as many rows.

    Args:
        returned: by the model.
        gives: "probabilities" or "logits"; None if it is to be found out.

    Returns:
        the rows, as a tensor or array [N, K]; and what their name says that they are, None where they have none.

    Raises:
        TypeError: for anything else, for none or several of these names, or another dtype.
        ValueError: for another shape.
    """
    named = None
    if not (isinstance(returned, Tensor | np.ndarray) or hasattr(returned, "__array__")):
        found = _named(returned)
        if found or isinstance(returned, Mapping):
            name = _chosen(found, returned, gives)
            named = next(kind for kind, names in NAMES.items() if name in names)
            returned = found[name]
        elif isinstance(returned, list | tuple):
            returned = _first(returned)
    as_rows("the model's answers", returned)
    return returned, named


def _named(returned: Any) -> dict[str, Any]:
    """The entries with names of `NAMES`; one that is None is left out."""
    names = [name for names in NAMES.values() for name in names]
    if isinstance(returned, Mapping):
        found = {name: returned[name] for name in names if name in returned}
    else:
        found = {name: getattr(returned, name) for name in names if hasattr(returned, name)}
    return {name: value for name, value in found.items() if value is not None}


def _chosen(found: Mapping[str, Any], returned: Any, gives: str | None) -> str:
    """The one name that counts.

    Raises:
        TypeError: for none or several.
    """
    wanted = [name for name in found if gives is None or name in NAMES[gives]]
    if len(wanted) == 1:
        return wanted[0]
    what = f"a {type(returned).__name__}"
    if isinstance(returned, Mapping):
        what += f" with the keys {', '.join(map(repr, returned)) or '(none)'}"
    elif found:
        what += f" with the attributes {', '.join(map(repr, found))}"
    if len(wanted) > 1:
        which = "tell gives" if gives is None and len({*_kinds(wanted)}) > 1 else f"{_WRAP}[...]"
        raise TypeError(
            f"expected the model's answers to have one of {', '.join(map(repr, wanted))}, got {what}; {which}"
        )
    kinds = _kinds(list(found))
    if kinds:
        raise TypeError(
            f"expected the model to give {gives}, got {what}, which names {kinds[0]}; pass gives={kinds[0]!r}"
        )
    names = [
        name for names in (NAMES.values() if gives is None else (NAMES[gives],)) for name in names
    ]
    raise TypeError(
        f"expected the model's answers to name {' or '.join(map(repr, names))}, got {what}; {_WRAP}[...]"
    )


def _kinds(names: list[str]) -> list[str]:
    """What the names say that the model gives."""
    return [kind for kind, known in NAMES.items() if any(name in known for name in names)]


def _first(returned: list[Any] | tuple[Any, ...]) -> Any:
    """The first entry of a tuple or list.

    Raises:
        TypeError: if it is no matrix, or another entry could be the answers as well.
    """
    shapes = [_shape(part) for part in returned]
    matrices = [i for i, shape in enumerate(shapes) if shape is not None and len(shape) == 2]
    what = f"a {type(returned).__name__} of {', '.join(map(_described, returned)) or 'nothing'}"
    if not matrices:
        raise TypeError(
            f"expected the model to answer with one tensor or array [N, K], got {what}; {_WRAP}.logits or model(x)[1]"
        )
    if matrices[0] != 0:
        raise TypeError(
            f"expected the first entry of the model's answers to be [N, K], got {what}, as with a loss; call the model "
            f"without labels, or {_WRAP}[{matrices[0]}]"
        )
    if any(shapes[i][:1] == shapes[0][:1] for i in matrices[1:]):  # type: ignore[index]
        raise TypeError(
            f"expected the model to answer with one tensor or array [N, K], got {what}, of which several could be it; "
            f"{_WRAP}.logits or model(x)[0]"
        )
    return returned[0]


def _shape(part: Any) -> tuple[int, ...] | None:
    """The shape of a tensor or array."""
    return tuple(part.shape) if isinstance(part, Tensor | np.ndarray) else None


def _described(part: Any) -> str:
    """A shape, or the name of a type."""
    shape = _shape(part)
    return type(part).__name__ if shape is None else str(list(shape))
