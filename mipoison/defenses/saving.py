"""Saving and loading of defenses, which each class declares by two attributes."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, TypeAlias, TypeVar

import torch
from torch import Tensor

from mipoison.construction import constructor
from mipoison.defenses import storage
from mipoison.dtype_stable import DtypeStable, fault_of
from mipoison.keys import Key, KeyLike, resolve_key

# Builds a part of a defense from its `settings()` and `state_dict()`.
Restore: TypeAlias = Callable[[dict[str, Any], dict[str, Tensor]], Any]

_Own = TypeVar("_Own", bound="Saved")
# Suffix of the numbers that a state_dict carries beside its tensors; in a file they are settings.
_EXTRA: Final = "_extra_state"
# Of the tensors in files.
_DTYPES: Final = (torch.float32, torch.float64, torch.int64)


class MissingKey(ValueError):
    """A defense with a key is read without one."""


class Saved(DtypeStable):
    """A module that its file restores: its constructor arguments are settings or parts.

    Attributes:
        saved: names of the constructor's arguments that are numbers, texts or lists and stand in
            attributes of the same names. A subclass adds its own to those of its bases.
        parts: names of those that are tensors (None) or modules (how to build them again). A part
            may be None, and is then left out.
    """

    saved: ClassVar[tuple[str, ...]] = ()
    parts: ClassVar[Mapping[str, Restore | None]] = {}
    # The secret of a keyed defense.
    _key: Key | None = None

    @classmethod
    def takes_key(cls, settings: Mapping[str, Any]) -> bool:
        """Whether a defense of these settings, one whose constructor has a key, needs it."""
        return True

    def settings(self) -> dict[str, Any]:
        """What the constructor takes beside the key and the parts; JSON types.

        Raises:
            TypeError: if the class does not declare all of it.
        """
        return {name: getattr(self, name) for name in _declared(type(self))[0]}

    def save(self, file: storage.File) -> None:
        """Writes the defense as safetensors, without its key, for `load` and `mipoison.load`.

        Args:
            file: a path, or a file opened for writing bytes. A file at the path is replaced at once
                when the new content is complete: a service that has loaded the old one is not
                disturbed.

        Raises:
            TypeError: for another kind of file, or a subclass that does not declare what it is made
                of.
            OSError: if the path cannot be written.
        """
        kinds = _declared(type(self))[1]
        settings, parts = self.settings(), {}
        for name, restore in kinds.items():
            part = getattr(self, name)
            if part is not None:
                parts[name] = {} if restore is None else part.settings()
        state = self.state_dict()
        tensors = {name: value for name, value in state.items() if not name.endswith(_EXTRA)}
        storage.save(file, kind_of(type(self)), settings | {"parts": parts}, tensors)

    def with_key(self: _Own, key: KeyLike) -> _Own:
        """This defense under another key: what `load` would give of its file and that key, with no refit.

        Nothing is shared with this one, which answers on as before. Under another key every row gets another answer,
        and who has both learns more than from one. What a fit measured under its own key stays as it is: epsilon, where
        an objective without a penalty was given a budget, and `realised`.

        Args:
            key: the new one.

        Raises:
            TypeError: for another kind of key.
            ValueError: for a short or missing key, or if this defense has none.

        Example:
            >>> import mipoison as mp, torch
            >>> p = torch.tensor([[0.7, 0.2, 0.1]])
            >>> rotated = mp.LFP(rate=1.0, key=0).with_key(1)
            >>> torch.equal(rotated(p), mp.LFP(rate=1.0, key=1)(p))
            True
        """
        if key is None:
            raise ValueError(
                "expected a key, got none; pass one, or mipoison.Key.generate() for one of this process alone"
            )
        if self._key is None:
            raise ValueError(_needless(type(self)))
        resolved = resolve_key(key)
        # (As in `restored`.)
        with torch.inference_mode(False):
            other = copy.deepcopy(self)
        other._key = resolved
        other._begin_counts()
        return other

    def _begin_counts(self) -> None:
        """Sets what was counted to zero."""

    @constructor
    def load(cls: type[_Own], file: storage.File, *, key: KeyLike = None) -> _Own:
        """Reads what `save` wrote; the key is not in the file.

        Args:
            file: a path, or a file opened for reading bytes; it is not used after the call.
            key: of a keyed defense, the one that it was made with or another; a defense without a
                key takes none.

        Raises:
            TypeError: for another kind of file or key.
            ValueError: if the file holds something else, or for a missing, short or needless key.
            OSError: if the path cannot be read.
        """
        content = storage.load(file)
        if content.kind != kind_of(cls):
            raise ValueError(
                f"expected a file saved by {cls.__name__}.save, got {content.kind} in {content.where}"
            )
        return restored(cls, content, key)


def numbers_of(state: Any, names: tuple[str, ...]) -> list[float]:
    """The numbers that a state_dict carries beside its tensors, from the tensor that `get_extra_state` made of them.

    Raises:
        ValueError: if it is no float64 tensor of as many.
    """
    if isinstance(state, Tensor) and state.dtype == torch.float64 and state.shape == (len(names),):
        return list(state.tolist())
    found = (
        f"{str(state.dtype).removeprefix('torch.')} {tuple(state.shape)}"
        if isinstance(state, Tensor)
        else type(state).__name__
    )
    raise ValueError(
        f"expected {', '.join(names)} in a state_dict as float64 ({len(names)},), got {found}; pass what state_dict "
        "gave, without a cast, or save the defense and read it with mipoison.load"
    )


def kind_of(cls: type[Saved]) -> str:
    """The class's name in a file; with its module for a class of another package."""
    own = cls.__module__.partition(".")[0] == __name__.partition(".")[0]
    return cls.__qualname__ if own else f"{cls.__module__}.{cls.__qualname__}"


def needs_key(cls: type[Saved], content: storage.Content) -> bool:
    """Whether the defense of a class that a file holds has a key."""
    return "key" in inspect.signature(cls.__init__).parameters and cls.takes_key(content.settings)


def restored(cls: type[_Own], content: storage.Content, key: KeyLike) -> _Own:
    """Builds the defense of a class from a file's content.

    Raises:
        ValueError: if settings or tensors are missing or unknown, or for a missing or needless key.
    """
    names, kinds = _declared(cls)
    given = dict(content.settings)
    of_parts = given.pop("parts", None)
    if (
        set(given) != set(names)
        or not isinstance(of_parts, dict)
        or not set(of_parts) <= set(kinds)
    ):
        odd = sorted(set(given) ^ set(names) | set(of_parts or ()) - set(kinds)) or ["parts"]
        raise ValueError(
            f"expected the settings of {cls.__name__} in {content.where}, got missing or unknown ones "
            f"({', '.join(odd)}): another version of mipoison saved it"
        )
    # (Outside the try block: a wrong key is not an error of the file.)
    options: dict[str, Any] = {} if key is None else {"key": resolve_key(key)}
    keyed = needs_key(cls, content)
    if keyed and key is None:
        raise MissingKey(
            f"expected the key of this {cls.__name__}, which is not in {content.where}, got none; pass key=..., "
            "the one that the defense was made with, for the same answers"
        )
    if key is not None and not keyed:
        raise ValueError(_needless(cls))
    _check_numbers(cls, content)
    # The defense may be used anywhere: make no inference tensors, and ignore the default device.
    with torch.inference_mode(False), torch.device("cpu"):
        try:
            for name, settings in of_parts.items():
                options[name] = _part(name, kinds[name], settings, content.tensors)
            made = cls(**given, **options)
        except (KeyError, TypeError, RuntimeError, AttributeError) as error:
            raise ValueError(
                f"expected a whole {cls.__name__} in {content.where}, got parts that do not fit "
                f"({type(error).__name__}: {str(error).partition(chr(10))[0]})"
            ) from error
    found = {name for name in made.state_dict() if not name.endswith(_EXTRA)}
    if found != set(content.tensors):
        odd = sorted(found ^ set(content.tensors))
        raise ValueError(
            f"expected the tensors of {cls.__name__} in {content.where}, got missing or unknown ones ({', '.join(odd)})"
        )
    return made


def _needless(cls: type[Saved]) -> str:
    return f"expected no key for {cls.__name__}, which has none, got one; leave it out"


def _check_numbers(cls: type[Saved], content: storage.Content) -> None:
    """Raises ValueError for numbers that `save` never writes, and with which a defense fails or does nothing."""
    for name, tensor in content.tensors.items():
        what = fault_of(tensor, _DTYPES)
        if what is not None:
            raise ValueError(
                f"expected finite float32, float64 or int64 numbers of {cls.__name__} in {content.where}, got {what} "
                f"in {name}: the file was changed after it was saved"
            )


def _part(
    name: str, restore: Restore | None, settings: dict[str, Any], tensors: dict[str, Tensor]
) -> Any:
    """A part of a defense.

    Raises:
        ValueError: if the part knows nothing of a setting.
    """
    if restore is None:
        return tensors[name]
    part = restore(settings, storage.below(name, tensors))
    unknown = sorted(set(settings) - set(part.settings()))
    if unknown:
        raise ValueError(
            f"expected settings that {type(part).__name__} knows, got {', '.join(unknown)}: "
            "another version of mipoison saved it"
        )
    return part


def _declared(cls: type[Saved]) -> tuple[tuple[str, ...], dict[str, Restore | None]]:
    """The constructor's arguments that are settings, and those that are parts.

    Raises:
        TypeError: if it takes what no class declares.
    """
    takes = [name for name in inspect.signature(cls.__init__).parameters if name != "self"]
    names: set[str] = set()
    parts: dict[str, Restore | None] = {}
    for base in reversed(cls.__mro__):
        names |= set(vars(base).get("saved", ()))
        parts |= vars(base).get("parts", {})
    lacking = set(takes) - names - set(parts) - {"key"}
    if lacking:
        raise TypeError(
            f"expected {cls.__name__} to declare what its constructor takes, in `saved` or `parts` (see "
            f"mipoison.defenses.saving.Saved), got nothing about {', '.join(sorted(lacking))}"
        )
    kept = {name: restore for name, restore in parts.items() if name in takes}
    return tuple(name for name in takes if name in names), kept
