"""Read the command line's options, and refuse wrong ones in one line that names the option."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field, fields, is_dataclass
from types import MappingProxyType
from typing import Any, Final, TypeVar

import tyro

from mipoison.eval.adversaries.settings import AdversarySettings
from mipoison.eval.configuration import Configuration
from mipoison.eval.run.engines import caught_signals
from mipoison.eval.targets.own import is_outside
from mipoison.eval.targets.stored import STORED
from mipoison.system_errors import of_system

Options = TypeVar("Options")
# Lines of tyro's boxes, and where its message ends and its help begins.
_BOX: Final = re.compile(r"[\u2500-\u257f]+|^[+|]|[+|]$|-{8,}", re.MULTILINE)
_HELP: Final = re.compile(
    r"\s*(Argument helptext:|For full helptext|Perhaps you meant).*", re.DOTALL
)

_PROGRAM: Final = "mipoison"
# The exit code after Ctrl-C.
INTERRUPTED: Final = 130


@dataclass(frozen=True)
class GivenAdversary(AdversarySettings):
    """`AdversarySettings` as they are given, not checked yet: tyro's message would not name the option."""

    def __post_init__(self) -> None:
        """Checks nothing."""


@dataclass(frozen=True)
class GivenConfiguration(Configuration):
    """A `Configuration` as it is given, not checked yet."""

    adversary: GivenAdversary = field(default_factory=GivenAdversary)

    def __post_init__(self) -> None:
        """Checks nothing."""

    @classmethod
    def of(cls, configuration: Configuration) -> GivenConfiguration:
        """An experiment whose values are the options' defaults."""
        values = _values(configuration)
        return cls(**{**values, "adversary": GivenAdversary(**_values(configuration.adversary))})

    def checked(self) -> Configuration:
        """The experiment that was asked for.

        Raises:
            ValueError: if a value is out of its range; the option is named.
        """
        with naming_options(AdversarySettings, prefix="adversary."):
            adversary = AdversarySettings(**_values(self.adversary))
        with naming_options(Configuration):
            return Configuration(**{**_values(self), "adversary": adversary})


def _values(of: Any) -> dict[str, Any]:
    return {item.name: getattr(of, item.name) for item in fields(of)}


@contextmanager
def naming_options(
    kind: type, *, prefix: str = "", called: Mapping[str, str] = MappingProxyType({})
) -> Iterator[None]:
    """Names the option where a message of the block begins with the name of a field.

    Args:
        kind: the dataclass whose fields the options are.
        prefix: of its options.
        called: options by field, where they have other names.

    Example:
        >>> with naming_options(AdversarySettings, prefix="adversary."):
        ...     AdversarySettings(wide_epochs=0)
        Traceback (most recent call last):
        ValueError: --adversary.wide-epochs: expected at least 1, got 0
    """
    assert is_dataclass(kind)
    try:
        yield
    except (ValueError, FileExistsError, FileNotFoundError) as error:
        name, colon, said = str(error).partition(":")
        if name not in {item.name for item in fields(kind)}:
            raise
        ours = FileExistsError, FileNotFoundError
        again = type(error) if isinstance(error, ours) else ValueError
        option = called.get(name, prefix + name.replace("_", "-"))
        raise again(f"--{option}{colon}{said}") from error


def refuse_ignored(
    configuration: Configuration, defenses: Sequence[str], given: Sequence[str]
) -> None:
    """Raises ValueError where an option was given that others leave without effect.

    Args:
        configuration: what the options make, all defenses of the preset in it.
        defenses: those that are kept; none: all.
        given: the arguments.
    """
    no_decoders = "" if configuration.adversary.decoders else "there are no --adversary.decoders"
    untrained = is_outside(configuration.target) or configuration.target == STORED
    trained = "--target is one of yours" if untrained else ""
    kept = {"none", "label-only", *defenses}
    left_out = [name for name in configuration.checked_methods if defenses and name not in kept]
    without_effect = {
        "--target-epochs": trained,
        "--adversary.decoder-channels": no_decoders,
        "--adversary.decoder-epochs": no_decoders,
        "--checked-methods": f"--defenses leaves {', '.join(left_out)} out" if left_out else "",
    }
    for option, why in without_effect.items():
        if why and _is_given(option, given):
            raise ValueError(f"{option}: without effect, since {why}; leave one of the two out")


def _is_given(option: str, given: Sequence[str]) -> bool:
    names = (word.partition("=")[0].replace("_", "-") for word in given)
    return option in names


def parsed(kind: Any, given: Sequence[str], *, prog: str = _PROGRAM) -> Any:
    """What tyro makes of the arguments; of what it refuses, the message in one line.

    Args:
        kind: what to make, as `tyro.cli` takes it.
        given: the arguments.
        prog: what the command is called, without one that the arguments name.

    Raises:
        ValueError: for a wrong option.
        SystemExit: after --help.
    """
    said = io.StringIO()
    try:
        if {"-h", "--help"} & set(given):
            return tyro.cli(kind, args=given, prog=prog)
        with redirect_stderr(said), _wide_page():
            return tyro.cli(kind, args=given, prog=prog)
    except SystemExit as stopped:
        if not stopped.code:
            raise
        raise ValueError(_message(said.getvalue(), given, prog)) from None


@contextmanager
def _wide_page() -> Iterator[None]:
    """No word of a message is broken."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "10000"
    try:
        yield
    finally:
        del os.environ["COLUMNS"]
        if before is not None:
            os.environ["COLUMNS"] = before


def _message(boxed: str, given: Sequence[str], prog: str) -> str:
    """The message of a box of tyro's, in one line, and where the options are listed."""
    _, _, body = boxed.partition("\n")
    plain = " ".join(_HELP.sub("", _BOX.sub(" ", body)).split())
    command = f" {given[0]}" if given and prog == _PROGRAM else ""
    return f"{plain.removeprefix('Error parsing ')}; see {prog}{command} --help"


def exiting(run: Callable[[Sequence[str]], int], given: Sequence[str]) -> None:
    """Runs a command and exits with its code, with 2 and one line for what cannot be done, or with a signal's code.

    Args:
        run: takes the arguments, and returns an exit code.
        given: the arguments.
    """
    with caught_signals() as signals:
        try:
            code = run(given)
        except KeyboardInterrupt:
            code = say("interrupted", signals.code or INTERRUPTED)
        except BrokenPipeError:
            raise
        except OSError as error:
            code = say(of_system(error), 2)
        except ValueError as error:
            code = say(str(error), 2)
    # A run that was interrupted has said so itself.
    if code := signals.code or code:
        sys.exit(code)


def say(said: str, code: int = 0) -> int:
    """Prints one line, whatever the message or a path in it is made of, and returns the code."""
    line = " ".join(said.splitlines())
    print(f"mipoison: {line}", file=sys.stderr, flush=True)
    return code
