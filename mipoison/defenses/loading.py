"""Load a defense of any class from its file."""

from __future__ import annotations

from typing import Final

from mipoison.defenses import baselines, storage
from mipoison.defenses.base import Defense
from mipoison.defenses.lfp import LFP
from mipoison.defenses.lpa import LPA
from mipoison.defenses.saving import kind_of, restored
from mipoison.keys import KeyLike

_KINDS: Final[dict[str, type[Defense]]] = {
    kind_of(kind): kind
    for kind in (LFP, LPA, *(getattr(baselines, name) for name in baselines.__all__))
}


def load(file: storage.File, *, key: KeyLike = None) -> Defense:
    """Reads a defense that its `save` wrote.

    Args:
        file: a path, or a file opened for reading bytes; it is not used after the call.
        key: of a keyed defense (LPA, LFP, the keyed baselines), as from `Key.from_env`: it is not in the file. With
            the key that the defense was made with it answers as before. A defense without a key takes none.

    Raises:
        TypeError: for another kind of file or key.
        ValueError: if the file holds something else, or for a missing, short or needless key.
        OSError: if the path cannot be read.

    Example:
        >>> import io
        >>> import mipoison as mp, torch
        >>> file, p = io.BytesIO(), torch.tensor([[0.7, 0.2, 0.1]])
        >>> defense = mp.LFP(rate=1.0, key=0)
        >>> defense.save(file)
        >>> _ = file.seek(0)
        >>> torch.equal(mp.load(file, key=0)(p), defense(p))
        True
    """
    content = storage.load(file)
    return restored(kind_in(content), content, key)


def kind_in(content: storage.Content) -> type[Defense]:
    """The class of the defense that a file holds.

    Raises:
        ValueError: if it is none of this package.
    """
    if content.kind not in _KINDS:
        raise ValueError(
            f"expected a defense out of {tuple(_KINDS)} in {content.where}, got {content.kind}; the load of its own "
            "class reads it"
        )
    return _KINDS[content.kind]
