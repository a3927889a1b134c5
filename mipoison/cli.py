"""The console script: help and version need only the package, commands need an extra."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from typing import Final, NoReturn, TextIO

COMMANDS: Final[Mapping[str, str]] = {
    "audit": "measure what your own confidence vectors leak, and what a defense wins",
    "evaluate": "attack every defense with every adversary and write a report",
    "report": "write the report of a run anew, or one of several runs together",
    "choose": "pick a run's best defense within a distortion, or for a gain",
    "certify": "bound the error of every adversary against a saved defense, on vectors of yours",
    "leaderboard": "add finished runs to a leaderboard and write its page anew",
    "serve": "defend the answers of an HTTP model server, as a reverse proxy",
    "defend": "defend the confidence vectors in Parquet files",
}
# What each extra installs, by the name that it is imported by.
_NEEDED: Final[Mapping[str, tuple[str, ...]]] = {
    "eval": ("sklearn", "torchmetrics", "matplotlib", "rich", "tyro", "joblib", "jinja2"),
    "serve": ("starlette", "uvicorn", "httpx", "prometheus_client"),
    "arrow": ("pyarrow",),
}
# Of the commands that need another one than [eval].
_EXTRAS: Final[Mapping[str, str]] = {"serve": "serve", "defend": "arrow"}
_HELP: Final = ("-h", "--help")
_INTERRUPTED: Final = 130


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs `mipoison …`.

    Exits with 0; with 1 if a cell of an experiment failed; with 2 and a line of explanation if the command cannot be
    done; and with 128 plus the number of a signal that ended it.

    Args:
        arguments: the command line; by default the process's.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    # A process that was started without an output has none: what is written to it goes nowhere.
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        # Letters that a terminal's encoding lacks are escaped instead of raising.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        _run(given)
        sys.stdout.flush()
    except KeyboardInterrupt:
        _stop("interrupted", _INTERRUPTED)
    except OSError as error:
        # The reader of the output has closed it, or the disk is full: nothing more can be printed there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            sys.exit(1)
        _stop(f"cannot print the answer: {error}", 2)


def _run(given: list[str]) -> None:
    command = given[0] if given else ""
    if command in _HELP:
        _print_help(sys.stdout)
    elif command == "--version":
        print(f"mipoison {version('mipoison')}")
    elif command in COMMANDS:
        _run_command(command, given)
    elif command:
        _stop(
            f"expected a command out of {', '.join(COMMANDS)}, got {command!r}; see mipoison --help",
            2,
        )
    else:
        _print_help(sys.stderr)
        sys.exit(2)


def _run_command(command: str, given: list[str]) -> None:
    extra = _extra_of(command)
    install = _install(extra)
    missing = [name for name in _NEEDED[extra] if _is_missing(name)]
    if missing and any(flag in given for flag in _HELP):
        print(
            f"usage: mipoison {command} [-h] ...\n\n{COMMANDS[command]}\n\n"
            f"It needs {', '.join(missing)}, and lists its options once they are installed: {install}"
        )
        return
    if missing:
        _stop(f"{command} needs {', '.join(missing)}; install them with: {install}", 2)
    try:
        if extra == "serve":
            from mipoison.serve.command import main as run

            given = given[1:]
        elif extra == "arrow":
            from mipoison.integrations.arrow.command import main as run

            given = given[1:]
        else:
            # Figures are drawn into files. A notebook's backend, which its terminals inherit, may not be installed.
            os.environ["MPLBACKEND"] = "agg"
            if command == "audit":
                from mipoison.audit.command import main as run
            else:
                from mipoison.eval.cli import main as run
    except ImportError as error:
        if (error.name or "").startswith("mipoison"):
            raise
        if error.name and _is_missing(error.name):
            _stop(f"{command} needs {error.name}; install it with: {install}", 2)
        _stop(
            f"{command}: {error.name or 'a package'} is installed and does not load ({error}); install it anew with: "
            f"{install}",
            2,
        )
    run(given)


def _extra_of(command: str) -> str:
    return _EXTRAS.get(command, "eval")


def _install(extra: str) -> str:
    return f"pip install 'mipoison[{extra}]'"


def _is_missing(module: str) -> bool:
    try:
        return find_spec(module) is None
    except (ImportError, ValueError):
        return True


def _print_help(stream: TextIO) -> None:
    lines = "\n".join(f"  {name:<12} {summary}" for name, summary in COMMANDS.items())
    print(
        "usage: mipoison [-h] [--version] COMMAND ...\n\n"
        "Measure how well confidence vectors can be inverted, and what a defense wins.\n\n"
        f"commands:\n{lines}\n\n"
        "`mipoison COMMAND --help` lists a command's options. "
        f"The commands need the extra [eval] ({_install('eval')}), serve needs [serve] ({_install('serve')}), and "
        f"defend needs [arrow] ({_install('arrow')}).",
        file=stream,
    )


def _stop(said: str, code: int) -> NoReturn:
    print(f"mipoison: {said}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
