"""Keep one run in one folder, and never replace or mix anything there in silence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

from mipoison.eval.configuration import Configuration
from mipoison.eval.results_file import read_json
from mipoison.eval.store import Store, is_unfinished, write_json

CONFIG: Final = "config.json"
NAMED: Final = "named-files.json"
RESULTS: Final = "results.json"
PICTURES: Final = "reconstructions.npz"
CELLS: Final = "cells"
REPORT: Final = "report.html"
SUMMARY: Final = "summary.md"
FIGURES: Final = "figures"
_OWN: Final = (NAMED, RESULTS, PICTURES, REPORT, SUMMARY, CONFIG)
_FIGURES: Final = ("privacy-utility.png", "victims-T*.png", "learning-T*.png")


def prepare_folder(
    out: Path,
    configuration: Configuration,
    *,
    named: dict[str, str] | None = None,
    overwrite: bool = False,
) -> None:
    """Makes the output folder, goes on with an earlier run of the same experiment, or clears it if told to.

    Args:
        out: the folder.
        configuration: the experiment. With other seeds and temperatures it is still the same.
        named: digests of the files that it names, see `named_files`.
        overwrite: whether an earlier run's files may be replaced. Other files are left alone.

    Raises:
        FileExistsError: if it is a file, or the folder holds something else or a run of files that have changed since,
            and ``overwrite`` is false; or if files of no run have the names of a run's, whatever ``overwrite`` is.
    """
    if out.exists() and not out.is_dir():
        raise FileExistsError(f"out: expected a folder, {out} is a file; choose another name")
    if out.exists() and any(not is_unfinished(path) for path in out.iterdir()):
        if overwrite:
            _clear(out)
        else:
            _check(out, configuration, named or {})
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / CONFIG, configuration.to_json())
    if named:
        write_json(out / NAMED, named)


def configuration_in(out: Path) -> Configuration:
    """The experiment whose run a folder holds; what an older version did not ask has its default.

    Raises:
        FileNotFoundError: if it holds none.
        ValueError: if it is one of another version.
    """
    if not (out / CONFIG).exists():
        raise FileNotFoundError(f"expected a run with a {CONFIG} in {out}, found none")
    try:
        return Configuration.from_json(read_json(out / CONFIG))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"expected {out / CONFIG} to be of a run of this version, got {error}"
        ) from error


def named_in(out: Path) -> dict[str, str]:
    """Digests of the files that a run's configuration names, of when it was begun."""
    if not (out / NAMED).exists():
        return {}
    digests: dict[str, str] = read_json(out / NAMED)
    return digests


def same_experiment(one: Configuration, other: Configuration) -> bool:
    """Whether two configurations differ in seeds and temperatures alone."""
    return replace(one, seeds=other.seeds, temperatures=other.temperatures) == other


def _check(out: Path, configuration: Configuration, named: dict[str, str]) -> None:
    """Raises unless a folder holds a run of the experiment, made with what its files hold now."""
    try:
        same = same_experiment(configuration_in(out), configuration)
    except (FileNotFoundError, ValueError):
        same = False
    if not same:
        raise FileExistsError(
            f"out: {out} holds something else than a run of this experiment; choose another "
            "folder, or replace what a run left there with --overwrite"
        )
    before = named_in(out)
    # Of a file that is gone whoever loads it will tell.
    if changed := sorted(name for name, digest in named.items() if before.get(name) != digest):
        raise FileExistsError(
            f"out: the run in {out} was made with other content of {', '.join(changed)}, or did not note it; choose "
            "another folder, or run it anew with --overwrite"
        )


def _clear(out: Path) -> None:
    """Removes a run; raises if files with a run's names are of none."""
    taken = _own_files(out)
    if taken and not _is_run(out):
        raise FileExistsError(
            f"out: expected a run to overwrite, but {taken[0]} is of none; choose another folder"
        )
    for path in taken:
        path.unlink()


def _is_run(out: Path) -> bool:
    """Whether a folder holds a run, of whatever version."""
    try:
        plain = read_json(out / CONFIG)
    except (OSError, ValueError):
        return False
    return {"seeds", "methods"} <= set(plain)


def _own_files(out: Path) -> list[Path]:
    """The files of a run, by their names; last the one that tells that it is a run."""
    figures = [path for name in _FIGURES for path in out.glob(f"{FIGURES}/{name}")]
    whole = [out / name for name in _OWN if (out / name).exists()]
    return Store(out / CELLS).files() + figures + whole
