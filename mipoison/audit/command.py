"""The command `mipoison audit`: measures what confidence vectors leak, and writes one page."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

import tyro
from rich.console import Console

from mipoison.audit.evidence import Evidence
from mipoison.audit.measure import probe
from mipoison.audit.measure.plan import PRESETS, budgets, defenses
from mipoison.audit.measure.run import PARTS, Work, run
from mipoison.audit.measure.setting import Setting
from mipoison.audit.reading.options import Options
from mipoison.audit.reading.read import read
from mipoison.audit.report.deploy import DEFENSE, SERVE, Deployment, deployment
from mipoison.audit.report.page import compose
from mipoison.audit.report.record import Asked, record
from mipoison.eval.options import INTERRUPTED, exiting, naming_options, parsed, say
from mipoison.eval.report.results_file import is_unfinished, write_json, write_text
from mipoison.eval.scalars import several, whole
from mipoison.progress import Report

PAGE: Final = "audit.html"
JSON: Final = "audit.json"
_OWN: Final = (PAGE, DEFENSE, SERVE, JSON)
# Between two lines while data are read.
_SECONDS: Final = 10.0
if TYPE_CHECKING:
    Preset: TypeAlias = str
else:
    Preset = tyro.extras.literal_type_from_choices(PRESETS)


@dataclass(frozen=True)
class Audit:
    """Measure how much better than from the label an adversary reconstructs inputs from your confidence vectors.

    Writes one folder: audit.html, audit.json, and the recommended defense with the settings that serve it.
    """

    inputs: Annotated[str, tyro.conf.Positional]
    """Inputs, and vectors beside them: .npz, .csv or .parquet, or a folder of pictures; see docs/guides/audit.md."""
    data: Annotated[Options, tyro.conf.arg(name="")] = field(default_factory=Options)
    out: Path = Path("mipoison-audit")
    """Output folder. An unfinished audit goes on there; one that is finished is refused unless --overwrite is given."""
    preset: Preset = "standard"
    """How thorough: "quick" takes minutes, "standard" up to half an hour on two cores."""
    seeds: tuple[int, ...] = (0,)
    """Each divides the rows and trains everything anew; the page has the means."""
    jobs: int = min(2, os.cpu_count() or 1)
    """Processes, one thread each; the numbers do not depend on it."""
    overwrite: bool = False
    """Replace what an earlier audit left in the output folder."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line, "audit" first.

    Exits with 2 and one line for what cannot be done, and with 128 and the number of a signal that ended it.

    Args:
        arguments: instead of the process's own.
    """
    exiting(_run, sys.argv[1:] if arguments is None else list(arguments))


def _run(given: Sequence[str]) -> int:
    chosen = parsed(Audit, given[1:], prog="mipoison audit")
    with naming_options(Audit):
        seeds = tuple(whole("seeds", seed, least=0) for seed in several("seeds", chosen.seeds))
        if not seeds or len(set(seeds)) < len(seeds):
            raise ValueError(f"seeds: expected different ones, got {chosen.seeds}")
        jobs = whole("jobs", chosen.jobs, least=1)
        _require_free(chosen.out, overwrite=chosen.overwrite)
    given_data = {item.name: getattr(chosen.data, item.name) for item in fields(Options)}
    with naming_options(Options):
        evidence = read(chosen.inputs, **given_data, progress=_reading())
    try:
        _audit(evidence, chosen, seeds, jobs)
    except KeyboardInterrupt:
        return say("interrupted; the same command goes on from there", INTERRUPTED)
    say(f"report: {chosen.out / PAGE}")
    return 0


def _reading() -> Report:
    """Says every while how much is read, which takes long where a model answers."""
    told = [time.monotonic()]

    def report(share: float) -> None:
        if time.monotonic() - told[0] >= _SECONDS:
            told[0] = time.monotonic()
            say(f"{share:.0%} read")

    return report


def _audit(evidence: Evidence, chosen: Audit, seeds: tuple[int, ...], jobs: int) -> None:
    preset, at = PRESETS[chosen.preset], budgets(evidence.outputs)
    compared = defenses(at)
    # (Too few rows are told before anything is written.)
    setting = Setting.of(evidence, preset, seeds[0])
    say(
        f"{len(evidence)} rows of {evidence.inputs.shape[1]} numbers ({evidence.kind}), {evidence.outputs.shape[1]} "
        f"classes, {len(evidence.skipped)} left out; defender, auxiliary, victims: {len(setting.defender)}, "
        f"{len(setting.auxiliary)}, {len(setting.victims)} rows"
    )
    expected = probe.seconds(setting, compared, seeds=len(seeds), jobs=jobs)
    say(
        f"{len(compared)} defenses at budgets {', '.join(f'{one:g}' for one in at) or 'none'}, {len(seeds)} seed(s), "
        f"{jobs} process(es): at most about {max(1, round(expected / 60))} min (preset {chosen.preset})"
    )
    if chosen.overwrite:
        _clear(chosen.out)
    started = time.perf_counter()
    work = Work(evidence, preset, compared, seeds, chosen.out / PARTS)
    measured = run(work, jobs=jobs, console=Console(stderr=True))
    took = time.perf_counter() - started
    content = record(evidence, Asked(chosen.preset, seeds, at, jobs, took), measured)
    content["shown"] = preset.shown
    _write(chosen.out, evidence, content, measured)


def _write(out: Path, evidence: Evidence, content: dict[str, Any], measured: list[Any]) -> None:
    """Writes all files, each whole or not at all; last the one that says that the audit is finished."""
    setting, first = measured[0]
    deployed: Deployment | None = None
    if content["recommended"] is not None:
        one = first[content["recommended"]]
        deployed = deployment(
            one.numbers["options"], one.file, evidence.classes, evidence.outputs.shape[1]
        )
        partial = out / f".{DEFENSE}.{os.getpid()}.partial"
        partial.write_bytes(one.file)
        os.replace(partial, out / DEFENSE)
        write_text(out / SERVE, deployed.serve)
    write_text(out / PAGE, compose(evidence, content, setting, first, deployed))
    write_json(out / JSON, content)
    shutil.rmtree(out / PARTS, ignore_errors=True)


def _require_free(out: Path, *, overwrite: bool) -> None:
    """Raises FileExistsError unless the folder is empty, or holds an audit that may go on or be replaced."""
    if out.exists() and not out.is_dir():
        raise FileExistsError(f"out: expected a folder, {out} is a file; choose another name")
    if not out.exists():
        return
    found = {path.name for path in out.iterdir() if not is_unfinished(path)}
    if foreign := sorted(found - {*_OWN, PARTS}):
        raise FileExistsError(
            f"out: expected an empty folder or one of an audit, {out} holds {foreign[0]}; choose another folder"
        )
    if JSON in found and not overwrite:
        raise FileExistsError(
            f"out: {out} holds a finished audit; choose another folder, or replace it with --overwrite"
        )


def _clear(out: Path) -> None:
    """Removes what an audit left; the file that says that it is finished goes first."""
    for name in reversed(_OWN):
        (out / name).unlink(missing_ok=True)
    shutil.rmtree(out / PARTS, ignore_errors=True)


if __name__ == "__main__":
    main()
