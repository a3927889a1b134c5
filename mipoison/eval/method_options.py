"""Check the options of a method: what its builder does not take is refused, and not dropped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeAlias

from mipoison.eval.scalars import real, whole

Options: TypeAlias = dict[str, float | str]
# Name and value to the value as Python has it.
Check: TypeAlias = Callable[[str, Any], float | str]


def number(most: float, *, zero: bool = False) -> Check:
    """A number > 0, or >= 0 with ``zero``, up to the most."""

    def check(name: str, value: Any) -> float:
        found = real(name, value)
        if not (0 < found <= most or (zero and found == 0)):
            raise ValueError(
                f"{name}: expected a number {'>=' if zero else '>'} 0 and <= {most:g}, got {found:g}"
            )
        return found

    return check


def count(least: int = 1) -> Check:
    """A whole number of at least so much."""
    return lambda name, value: whole(name, value, least=least)


def choice(allowed: Iterable[str]) -> Check:
    """One of the words."""

    def check(name: str, value: Any) -> str:
        if value not in tuple(allowed):
            raise ValueError(f"{name}: expected one of {', '.join(allowed)}, got {value!r}")
        return str(value)

    return check


def text(name: str, value: Any) -> str:
    """Any text."""
    if not isinstance(value, str):
        raise ValueError(f"{name}: expected a text, got {value!r}")
    return value


@dataclass(frozen=True)
class Takes:
    """The options of a builder.

    Attributes:
        needed: those that a method must have.
        more: those that it may have.
    """

    needed: Mapping[str, Check] = field(default_factory=lambda: MappingProxyType({}))
    more: Mapping[str, Check] = field(default_factory=lambda: MappingProxyType({}))

    def checked(self, options: Options) -> Options:
        """The options, their values as Python has them, in their order.

        Raises:
            ValueError: if one is missing, unknown or out of its range.

        Example:
            >>> Takes({"decimals": count()}).checked({"decimals": 1, "wish": 2})
            Traceback (most recent call last):
            ValueError: expected options decimals, got wish too
        """
        known = {**self.needed, **self.more}
        if unknown := [name for name in options if name not in known]:
            raise ValueError(
                f"expected options {', '.join(known) or '(none)'}, got {', '.join(unknown)} too"
            )
        if missing := [name for name in self.needed if name not in options]:
            raise ValueError(f"expected options {', '.join(known)}, got no {', '.join(missing)}")
        return {name: known[name](name, value) for name, value in options.items()}
