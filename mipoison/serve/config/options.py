"""Read the settings from a TOML file and from flags, and refuse every mistake in one line."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields
from pathlib import Path
from typing import Any, Final, NoReturn, get_type_hints

from mipoison.serve.config.checks import check
from mipoison.serve.config.settings import MOST_DECIMALS, Settings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SECTIONS: Final[Mapping[str, type]] = get_type_hints(Settings)
_KEYS: Final = frozenset((("defense", "key_env"), ("defense", "key_file")))
_FULL: Final = "full"
_SWITCH: Final = {"true": True, "false": False}


@dataclass(frozen=True)
class _Given:
    """A value, and where it stands, for messages."""

    value: Any
    where: str
    folder: Path


def read(file: Path | None, given: argparse.Namespace) -> Settings:
    """The checked settings of a file, which flags override.

    Args:
        file: TOML; None for flags alone.
        given: what `add_flags` made of the command line.

    Raises:
        ValueError: for an unknown, missing or wrong setting, or several that do not go together; in one line.
        OSError: if the file cannot be read.
    """
    values = {} if file is None else _of_file(file)
    flags = {
        (section, item.name): _Given(flag, flag_of(item), Path())
        for section, item in all_settings()
        if (flag := vars(given).get(_dest(section, item))) is not None
    }
    if flags.keys() & _KEYS:
        # (A flag that says where the key is overrides the file, whichever of the two this names.)
        values = {name: value for name, value in values.items() if name not in _KEYS}
    values |= flags
    made: dict[str, Any] = {}
    for section, kind in SECTIONS.items():
        made[section] = kind(
            **{
                item.name: _converted(item, values[section, item.name])
                for item in fields(kind)
                if _is_given(section, item, values)
            }
        )
    settings = Settings(**made)
    check(settings)
    return settings


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds a flag for each setting, in groups named after the sections."""
    for section, kind in SECTIONS.items():
        group = parser.add_argument_group(f"[{section}]", (kind.__doc__ or "").strip())
        for item in fields(kind):
            said = item.metadata["told"]
            if choices := item.metadata["choices"]:
                said += f": {', '.join(choices)}"
            if item.default not in (None, MISSING, ()):
                shown = item.default
                if isinstance(shown, tuple):
                    shown = ", ".join(shown)
                said += f" (default: {str(shown).lower() if isinstance(shown, bool) else shown})"
            options: dict[str, Any] = {"help": said.replace("%", "%%"), "metavar": "VALUE"}
            if item.metadata["kind"] == "texts":
                options |= {"action": "append", "help": options["help"] + "; may be repeated"}
            group.add_argument(flag_of(item), dest=_dest(section, item), **options)


def all_settings() -> Iterator[tuple[str, Field[Any]]]:
    """Each section's name with each of its fields."""
    for section, kind in SECTIONS.items():
        for item in fields(kind):
            yield section, item


def flag_of(item: Field[Any]) -> str:
    """The flag of a setting."""
    return "--" + str(item.metadata["flag"] or item.name).replace("_", "-")


def _dest(section: str, item: Field[Any]) -> str:
    return f"{section}.{item.name}"


def _is_given(section: str, item: Field[Any], values: Mapping[tuple[str, str], _Given]) -> bool:
    if (section, item.name) in values:
        return True
    if item.default is MISSING:
        raise ValueError(
            f"expected {item.name} in [{section}], got none; add it to the file, or give {flag_of(item)}"
        )
    return False


def _of_file(file: Path) -> dict[tuple[str, str], _Given]:
    try:
        document = tomllib.loads(file.read_bytes().decode())
    except UnicodeDecodeError:
        raise ValueError(f"{file}: expected UTF-8 text, got other bytes") from None
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{file}: expected TOML, got a mistake: {error}") from None
    except RecursionError:
        raise ValueError(f"{file}: expected TOML, got lists in lists, too deep to read") from None
    values = {}
    for section, content in document.items():
        if section not in SECTIONS:
            _unknown(f"{file}", "section", section, SECTIONS)
        if not isinstance(content, dict):
            raise ValueError(f"{file}: expected a section [{section}], got a value of that name")
        names = [item.name for item in fields(SECTIONS[section])]
        for name, value in content.items():
            if name not in names:
                _unknown(f"{file} [{section}]", "setting", name, names)
            values[section, name] = _Given(value, f"{file} [{section}] {name}", file.parent)
    return values


def _unknown(where: str, what: str, got: str, known: Mapping[str, Any] | Sequence[str]) -> NoReturn:
    raise ValueError(f"{where}: expected a {what} out of {', '.join(known)}, got {got!r}")


def _converted(item: Field[Any], given: _Given) -> Any:
    """The value in the type of the field.

    Raises:
        ValueError: naming the file and section, or the flag.
    """
    value, meta = given.value, item.metadata
    try:
        converted = _CONVERT[meta["kind"]](value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(
            f"{given.where}: expected {_EXPECTED[meta['kind']]}, got {value!r}"
        ) from None
    low, high = meta["low"], meta["high"]
    if low is not None and not low <= converted <= high:
        raise ValueError(f"{given.where}: expected {low} to {high}, got {value!r}")
    if meta["choices"] and converted not in meta["choices"]:
        raise ValueError(
            f"{given.where}: expected one of {', '.join(meta['choices'])}, got {value!r}"
        )
    return given.folder / converted if isinstance(converted, Path) else converted


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value or not value.isprintable():
        raise TypeError
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError
    return tuple(_text(entry) for entry in value)


def _int(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TypeError
    return int(value)


def _float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def _switch(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if not isinstance(value, str) or value not in _SWITCH:
        raise TypeError
    return _SWITCH[value]


def _decimals(value: Any) -> int | None:
    if value == _FULL:
        return None
    number = _int(value)
    if not 1 <= number <= MOST_DECIMALS:
        raise ValueError
    return number


_CONVERT: Final[Mapping[str, Any]] = {
    "text": _text,
    "path": lambda value: Path(_text(value)),
    "int": _int,
    "float": _float,
    "switch": _switch,
    "texts": _texts,
    "decimals": _decimals,
}
_EXPECTED: Final[Mapping[str, str]] = {
    "text": "a text",
    "path": "a path",
    "int": "a whole number",
    "float": "a finite number",
    "switch": "true or false",
    "texts": "a list of texts",
    "decimals": f'a whole number from 1 to {MOST_DECIMALS}, or "{_FULL}"',
}
