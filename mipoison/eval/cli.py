"""The command line of the harness: `mipoison evaluate`, `report`, `choose` and `leaderboard`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeAlias

import tyro
from rich.console import Console

from mipoison.eval import leaderboard
from mipoison.eval.choose import choose
from mipoison.eval.configuration import Configuration
from mipoison.eval.engines import ENGINES
from mipoison.eval.experiment import run
from mipoison.eval.gathering import merge
from mipoison.eval.outside import imported
from mipoison.eval.presets import DEMO, PRESETS, outside
from mipoison.eval.report import write_report
from mipoison.eval.run_folder import RESULTS
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

    # Without a prefix: its options stand beside the others.
    experiment: Annotated[Configuration, tyro.conf.arg(name="")]
    out: Path = Path("mipoison-demo")
    """Output folder. An unfinished run of the same experiment goes on there; other content is refused unless
    --overwrite is given."""
    preset: Preset = "demo"
    """Experiment whose values the other options change. "demo": digits, seeds 0-2, T = 1 and 3, eleven defenses.
    "quick": one short cell. "mnist", "faces": the demo's defenses on MNIST-5k and on ORL faces; need the extra [data].
    "standard": defenses and baselines at four strengths on digits. "full": the same on MNIST-5k with Yang et al.'s
    classifier and with decoders: hours. "study-…", "more-…", "asked-…": the parts of docs/results.md."""
    defenses: tuple[str, ...] = ()
    """Only these of the preset's defenses; "none" and "label-only" always take part."""
    outside: tuple[str, ...] = ()
    """Defenses of yours beside the preset's, each "module:name": a callable from vectors to vectors, or something whose
    fit gives one; see docs/adding-a-defense.md. The working folder is searched for the module."""
    worst_cases: tuple[str, ...] = ()
    """Defenses of the run that are also asked again with altered queries, and attacked by who simulates other keys and
    by who holds theirs, instead of those that the preset names. Each takes as long as twenty defenses."""
    jobs: int = min(2, os.cpu_count() or 1)
    """Processes, one thread each; the numbers do not depend on it."""
    engine: Engine = "loky"
    """What spreads the cells: processes here ("loky"), or joblib's backend for a Ray or Dask cluster, which is started
    here if there is none. On several machines --out must be a folder that all of them see."""
    overwrite: bool = False
    """Replace what an earlier run left in the output folder."""


@dataclass(frozen=True)
class Report:
    """Write the report of a run anew, from its results.json, or one of several runs of an experiment together."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders that `mipoison evaluate` wrote; several must differ in seeds and temperatures alone."""
    out: Path = Path("mipoison-merged")
    """New folder for several runs together; unused for one."""


@dataclass(frozen=True)
class Leaderboard:
    """Add finished runs to a leaderboard, one JSON file a defense and setting, and write its page anew."""

    folder: Annotated[Path, tyro.conf.Positional]
    """Where the leaderboard lies, or is begun."""
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Folders that `mipoison evaluate` wrote, or JSON files like results.json; none: only the page is written."""


@dataclass(frozen=True)
class Choose:
    """Pick the operating point of a run: the defense of largest gain within a distortion, or of least for a gain."""

    run: Annotated[Path, tyro.conf.Positional]
    """Folder that `mipoison evaluate` wrote."""
    max_l1: float | None = None
    """Most realised mean l1 that clients bear."""
    min_gain: float | None = None
    """Least gain under the strongest adversary, the denoiser among them."""
    temperature: float | None = None
    """Which of the run's temperatures, where there are several."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line; exits with 2 for a wrong option, 1 if a cell failed, 130 after Ctrl-C.

    Args:
        arguments: instead of the process's own.
    """
    console = Console(stderr=True)
    given = sys.argv[1:] if arguments is None else list(arguments)
    evaluate = tyro.conf.subcommand("evaluate", default=Evaluate(_preset(given)))
    try:
        command = tyro.cli(
            Annotated[Evaluate, evaluate]
            | Annotated[Report, tyro.conf.subcommand("report")]
            | Annotated[Choose, tyro.conf.subcommand("choose")]
            | Annotated[Leaderboard, tyro.conf.subcommand("leaderboard")],
            prog="mipoison",
            args=given,
            description="Measure how well confidence vectors can be inverted, and what a defense wins.",
        )
        if isinstance(command, Evaluate):
            code = _evaluate(command, console)
        elif isinstance(command, Report):
            code = _report(command, console)
        elif isinstance(command, Leaderboard):
            code = _leaderboard(command, console)
        else:
            code = _choose(command)
    except (ValueError, FileExistsError, FileNotFoundError) as error:
        console.print(f"mipoison: {error}", style="red", markup=False)
        code = 2
    if code:
        sys.exit(code)


def _preset(arguments: Sequence[str]) -> Configuration:
    """The experiment that the arguments name, whose values are the defaults of their other options."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--preset", nargs="?")
    named = parser.parse_known_args(arguments)[0].preset
    # A wrong name is told with the right ones by what parses all of the options.
    return NAMED.get(named, DEMO)


def _report(command: Report, console: Console) -> int:
    if not command.runs:
        raise ValueError("expected a folder that `mipoison evaluate` wrote, got none")
    out = command.runs[0]
    if len(command.runs) > 1:
        out = command.out
        if not merge(command.runs, out):
            console.print("some seeds are not there at some temperatures", markup=False)
    console.print(f"report: {write_report(out)}")
    return 0


def _leaderboard(command: Leaderboard, console: Console) -> int:
    for given in command.runs:
        file = given / RESULTS if given.is_dir() else given
        if not file.exists():
            raise FileNotFoundError(f"expected {RESULTS} in {given}, found none")
        leaderboard.add(json.loads(file.read_text()), command.folder)
    console.print(f"leaderboard: {leaderboard.write_page(command.folder)}")
    return 0


def _choose(command: Choose) -> int:
    if not (command.run / RESULTS).exists():
        raise FileNotFoundError(f"expected {RESULTS} in {command.run}, found none")
    results = json.loads((command.run / RESULTS).read_text())
    found = choose(
        results,
        max_l1=command.max_l1,
        min_gain=command.min_gain,
        temperature=command.temperature,
    )
    print(
        f"# {found.name}: gain {found.gain:.2f} at a mean l1 of {found.l1:.3f} ({found.conditions}).\n"
        "# outputs, inputs: the defender's own data, never private; secret: the deployment's key.\n"
        "# model: in eval mode; gives logits, or the logarithms of probabilities.\n"
        + (
            "# Where they hold altered copies of one input, add groups=.\n"
            * ("equilibrium" in found.code or "generator" in found.code)
        )
        + found.code
    )
    return 0


def _evaluate(command: Evaluate, console: Console) -> int:
    configuration = command.experiment
    if command.defenses:
        configuration = configuration.with_methods(command.defenses)
    for name in command.outside:
        imported(name)
    configuration = replace(
        configuration,
        methods=(*configuration.methods, *map(outside, command.outside)),
        worst_case_methods=command.worst_cases or configuration.worst_case_methods,
    )
    outcome = run(
        configuration,
        command.out,
        jobs=command.jobs,
        engine=command.engine,
        overwrite=command.overwrite,
        console=console,
    )
    some = (command.out / RESULTS).exists()
    if some:
        console.print(f"report: {write_report(command.out)}")
    for name, trace in outcome.failed.items():
        console.print(f"cell {name} failed:\n{trace}", style="red", markup=False)
    if outcome.complete:
        return 0
    covered = "the report covers the cells that were finished" if some else "no cell was finished"
    console.print(f"not finished: {covered}; the same command goes on from there")
    return 1 if outcome.failed else 130


if __name__ == "__main__":
    main()
