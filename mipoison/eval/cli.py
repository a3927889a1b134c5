"""The command line of the harness: `mipoison evaluate` and `mipoison report`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeAlias

import tyro
from rich.console import Console

from mipoison.eval.experiment import ENGINES, RESULTS, Outcome, run
from mipoison.eval.presets import PRESETS
from mipoison.eval.report import write_report
from mipoison.eval.studies import STUDIES

NAMED: Final = PRESETS | STUDIES
# tyro lists and checks the names; a type checker sees any text.
if TYPE_CHECKING:
    Preset: TypeAlias = str
    Engine: TypeAlias = str
else:
    Preset = tyro.extras.literal_type_from_choices(NAMED)
    Engine = tyro.extras.literal_type_from_choices(ENGINES)


@dataclass(frozen=True)
class Evaluate:
    """Attack every defense with every adversary and write a report.

    Writes one folder: config.json, results.json, report.html, its pictures, and the images shown.
    """

    out: Path = Path("mipoison-demo")
    """Output folder. An unfinished run of the same experiment goes on there; other content is refused unless
    --overwrite is given."""
    preset: Preset = "demo"
    """"demo": digits, seeds 0-2, T = 1 and 3, eleven defenses. "quick": one short cell. "mnist",
    "faces": the demo's defenses on MNIST-5k and on ORL faces; need the extra [data]. "defenses-…": the
    study of docs/study.md, every defense at equal mean l1."""
    seeds: tuple[int, ...] = ()
    """Seeds instead of the preset's, one repetition each."""
    temperatures: tuple[float, ...] = ()
    """Softmax temperatures instead of the preset's."""
    defenses: tuple[str, ...] = ()
    """Only these of the preset's defenses; "none" and "label-only" always take part."""
    jobs: int = min(2, os.cpu_count() or 1)
    """Processes, one thread each; the numbers do not depend on it."""
    engine: Engine = "loky"
    """What spreads the cells: processes here ("loky"), or joblib's backend for a Ray or Dask cluster, which is started
    here if there is none. On several machines --out must be a folder that all of them see."""
    overwrite: bool = False
    """Replace what an earlier run left in the output folder."""


@dataclass(frozen=True)
class Report:
    """Write the report of an existing folder anew, from its results.json."""

    out: Annotated[Path, tyro.conf.Positional]
    """Folder that `mipoison evaluate` wrote."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line; exits with 2 for a wrong option, 1 if a cell failed, 130 after Ctrl-C.

    Args:
        arguments: instead of the process's own.
    """
    command = tyro.cli(
        Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
        | Annotated[Report, tyro.conf.subcommand("report")],
        prog="mipoison",
        args=arguments,
        description="Measure how well confidence vectors can be inverted, and what a defense wins.",
    )
    console = Console(stderr=True)
    outcome = Outcome(complete=True, failed={})
    try:
        if isinstance(command, Evaluate):
            outcome = _evaluate(command, console)
        if (command.out / RESULTS).exists() or isinstance(command, Report):
            console.print(f"report: {write_report(command.out)}")
    except (ValueError, FileExistsError, FileNotFoundError) as error:
        console.print(f"mipoison: {error}", style="red", markup=False)
        sys.exit(2)
    for name, trace in outcome.failed.items():
        console.print(f"cell {name} failed:\n{trace}", style="red", markup=False)
    if not outcome.complete:
        some = (command.out / RESULTS).exists()
        covered = (
            "the report covers the cells that were finished" if some else "no cell was finished"
        )
        console.print(f"not finished: {covered}; the same command goes on from there")
        sys.exit(1 if outcome.failed else 130)


def _evaluate(command: Evaluate, console: Console) -> Outcome:
    configuration = NAMED[command.preset]
    if command.defenses:
        configuration = configuration.with_methods(command.defenses)
    configuration = replace(
        configuration,
        seeds=command.seeds or configuration.seeds,
        temperatures=command.temperatures or configuration.temperatures,
    )
    return run(
        configuration,
        command.out,
        jobs=command.jobs,
        engine=command.engine,
        overwrite=command.overwrite,
        console=console,
    )


if __name__ == "__main__":
    main()
