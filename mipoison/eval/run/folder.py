"""Keep one run in one folder, and never replace or mix anything there in silence."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from mipoison.eval.configuration import Configuration
from mipoison.eval.data.files import pictures_by_class
from mipoison.eval.data.lfw import FACES, LOGITS
from mipoison.eval.outside import module_file
from mipoison.eval.report.results_file import (
    CELLS,
    CONFIG,
    FIGURES,
    NAMED,
    PICTURES,
    REPORT,
    RESULTS,
    SUMMARY,
    cell_files,
    is_unfinished,
    named_in,
    read_json,
    write_json,
)
from mipoison.eval.targets.own import is_outside

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
    """The experiment whose run a folder holds.

    Raises:
        FileNotFoundError: if it holds none.
        ValueError: if its configuration is damaged.
    """
    if not (out / CONFIG).exists():
        raise FileNotFoundError(f"expected a run with a {CONFIG} in {out}, found none")
    try:
        return Configuration.from_json(read_json(out / CONFIG))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"expected {out / CONFIG} to be the configuration of a run, got {error}"
        ) from error


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
    # A file that is gone is reported where it is loaded.
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
    """Whether a folder holds a run."""
    try:
        plain = read_json(out / CONFIG)
    except (OSError, ValueError):
        return False
    return {"seeds", "methods"} <= set(plain)


def _own_files(out: Path) -> list[Path]:
    """The files of a run, by their names; last the one that tells that it is a run."""
    figures = [path for name in _FIGURES for path in out.glob(f"{FIGURES}/{name}")]
    whole = [out / name for name in _OWN if (out / name).exists()]
    return cell_files(out / CELLS) + figures + whole


def named_files(configuration: Configuration) -> dict[str, str]:
    """Digests of a user's own data, target and defenses, by how the configuration names them.

    Of a module its own file counts, and nothing that it imports. What is not there is left out: loading it
    reports that. The data of a hub have no file here.

    Example:
        >>> from mipoison.eval.presets import QUICK
        >>> named_files(QUICK)
        {}
    """
    return {name: _digest(path) for name, path in _named(configuration) if path.exists()}


def _named(configuration: Configuration) -> Iterator[tuple[str, Path]]:
    kind, _, path = configuration.dataset.partition(":")
    if kind in ("npz", "folder"):
        yield configuration.dataset, Path(path)
    if kind in ("lfw", "lfw-48"):
        yield from (
            (f"{configuration.dataset}/{file}", Path(path) / file) for file in (FACES, LOGITS)
        )
    named = [
        str(dict(method.options)["callable"])
        for method in configuration.methods
        if method.builder == "outside"
    ]
    if is_outside(configuration.target):
        named.append(configuration.target)
    named += [file for file in (configuration.evaluator, configuration.lpips) if file is not None]
    for name in named:
        file = module_file(name) if ":" in name else Path(name)
        if file is not None:
            yield name, file


def _digest(path: Path) -> str:
    """Of a file's bytes, or of names and bytes of the pictures in a folder."""
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    whole = hashlib.sha256()
    for picture in (file for own in pictures_by_class(path) for file in own):
        whole.update(f"{picture.relative_to(path)}\0{_digest(picture)}\n".encode())
    return whole.hexdigest()
