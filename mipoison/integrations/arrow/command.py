"""The command `mipoison defend`: defended copies of Parquet files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

import pyarrow as pa

from mipoison.defenses import Deferred
from mipoison.integrations.arrow.parquet import defend_parquet
from mipoison.integrations.arrow.shown import Shown
from mipoison.system_errors import of_system

_VARIABLE: Final = "MIPOISON_KEY"
_INTERRUPTED: Final = 130


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs `mipoison defend`.

    Exits with 0 when the output is complete; with 2 and one line for what cannot be done, and with 130 after Ctrl-C:
    what was finished then is kept in `OUT.partial`, and the same command goes on from there.

    Args:
        arguments: of the command line, without the command; the process's by default.
    """
    given = _parser().parse_args(arguments)
    shown = Shown(sys.stderr)
    try:
        defense = Deferred(given.defense, key_env=given.key_env, key_file=given.key_file).defense
        if given.on_invalid is not None:
            defense.on_invalid = given.on_invalid
        done = defend_parquet(
            given.source,
            given.out,
            defense,
            column=given.column[0] if len(given.column) == 1 else given.column,
            decimals=given.decimals,
            ids=given.ids,
            drop=given.drop,
            keep=given.keep,
            rows_per_batch=given.rows_per_batch,
            progress=shown,
        )
    except KeyboardInterrupt:
        shown.end()
        _stop("interrupted; the same command goes on from there", _INTERRUPTED)
    except OSError as error:
        shown.end()
        _stop(of_system(error))
    except (ValueError, TypeError, pa.ArrowException) as error:
        shown.end()
        _stop(str(error))
    shown.end()
    labels = f", {done.labels:,} of them answered by their labels alone" if done.labels else ""
    _say(f"{given.out}: {done.rows:,} rows{labels}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mipoison defend",
        usage="mipoison defend IN OUT --defense FILE [options]",
        allow_abbrev=False,
        description=(
            "Defends the confidence vectors in a Parquet file, or in all of a folder, and copies the other columns. "
            "An interrupted run goes on with the same command; until it is complete, its parts lie in OUT.partial. The "
            "key is never given here, but in a variable or a file."
        ),
    )
    add = parser.add_argument
    add("source", metavar="IN", help="Parquet file, or a folder of *.parquet")
    add("out", metavar="OUT", help="path where nothing is yet")
    add("--defense", required=True, metavar="FILE", help="file that the defense's save wrote")
    add(
        "--column",
        nargs="+",
        default=["p"],
        metavar="NAME",
        help="column of vectors; or those of the classes, one number each, in order (default: p)",
    )
    key = parser.add_mutually_exclusive_group()
    key.add_argument(
        "--key-env",
        default=_VARIABLE,
        metavar="NAME",
        help=f"environment variable with the key of a keyed defense (default: {_VARIABLE})",
    )
    key.add_argument("--key-file", metavar="PATH", help="file with the key, in its place")
    add("--decimals", type=int, metavar="D", help="digits of the answers, which sum to one exactly")
    add("--ids", metavar="NAME", help="column of request identities")
    add("--drop", nargs="+", default=[], metavar="NAME", help="columns to leave out")
    add(
        "--keep",
        nargs="+",
        default=[],
        metavar="NAME",
        help="columns of lists of fractions that hold nothing to be defended; others are refused",
    )
    add(
        "--on-invalid",
        choices=("raise", "label"),
        help="what becomes of rows that are no probability vectors (default: as the defense was saved)",
    )
    add("--rows-per-batch", type=int, metavar="N", help="rows that are read at once")
    return parser


def _say(said: str) -> None:
    print(f"mipoison: {' '.join(said.splitlines())}", file=sys.stderr, flush=True)


def _stop(said: str, code: int = 2) -> NoReturn:
    _say(said)
    sys.exit(code)
