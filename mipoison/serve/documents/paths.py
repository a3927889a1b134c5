"""Places in a JSON document: a small subset of JSON path."""

from __future__ import annotations

import re
from typing import Final, TypeAlias

EACH: Final = 0
# A key, or EACH for all entries of a list.
Step: TypeAlias = "str | int"
_STEP: Final = re.compile(r"""\[\*\] | \. ([A-Za-z_][A-Za-z0-9_\-]*) | \["([^"\\]+)"\]""", re.X)


def parse(path: str) -> tuple[Step, ...]:
    """The steps of a path.

    Args:
        path: keys with dots between them, `[*]` for every entry of a list, `["…"]` for a key with other characters;
            `$` alone, or before the rest, is the document.

    Raises:
        ValueError: for any other JSON path.

    Example:
        >>> parse('result.items[*]["top scores"]')
        ('result', 'items', 0, 'top scores')
    """
    rest = path[1:] if path.startswith("$") else path if path.startswith("[") else f".{path}"
    steps: list[Step] = []
    at = 0
    while at < len(rest):
        found = _STEP.match(rest, at)
        if found is None:
            raise ValueError(
                f'expected a path such as a.b[*].c or a["b c"], got {path!r}, whose part {rest[at:]!r} is none'
            )
        steps.append(EACH if found[0] == "[*]" else found[1] or found[2])
        at = found.end()
    return tuple(steps)


def shown(steps: tuple[Step, ...]) -> str:
    """The path of some steps, for messages."""
    text = "".join("[*]" if step == EACH else f".{step}" for step in steps)
    return text.removeprefix(".") or "the top of the document"
