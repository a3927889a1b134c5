"""The command line of the harness: `mipoison evaluate`, `report`, `choose` and `leaderboard`."""

from __future__ import annotations

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
from mipoison.eval.data.strangers import AUXILIARY
from mipoison.eval.experiment import ENGINES, RESULTS, merge, run
from mipoison.eval.outside import imported
from mipoison.eval.presets import PRESETS, outside
from mipoison.eval.report import write_report
from mipoison.eval.studies import STUDIES

NAMED: Final = PRESETS | STUDIES
# tyro lists and checks the names; a type checker sees any text.
if TYPE_CHECKING:
    Preset: TypeAlias = str
    Engine: TypeAlias = str
    Auxiliary: TypeAlias = str
else:
    Preset = tyro.extras.literal_type_from_choices(NAMED)
    Engine = tyro.extras.literal_type_from_choices(ENGINES)
    Auxiliary = tyro.extras.literal_type_from_choices(AUXILIARY)


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
    "faces": the demo's defenses on MNIST-5k and on ORL faces; need the extra [data]. "standard": every defense and
    baseline at four strengths on digits. "full": the same on MNIST-5k with Yang et al.'s classifier and with decoders:
    hours. "study-…": the parts of docs/results.md."""
    seeds: tuple[int, ...] = ()
    """Seeds instead of the preset's, one repetition each."""
    temperatures: tuple[float, ...] = ()
    """Softmax temperatures instead of the preset's."""
    defenses: tuple[str, ...] = ()
    """Only these of the preset's defenses; "none" and "label-only" always take part."""
    outside: tuple[str, ...] = ()
    """Defenses of yours beside the preset's, each "module:name": a callable from vectors to vectors, or something whose
    fit gives one; see docs/adding-a-defense.md. The working folder is searched for the module."""
    dataset: str = ""
    """Data instead of the preset's: digits, mnist, orl, npz:FILE, folder:FOLDER, torchvision:NAME or
    huggingface:NAME; the last two download."""
    auxiliary: Auxiliary | None = None
    """What the adversary's queries show instead of the preset's: the "same" classes as the target's, or a third of the
    classes, which the target does not know ("other"), as with faces of other people."""
    target: str = ""
    """Classifier instead of the preset's: mlp, cnn, yang or resnet, alone or defended by retraining: mlp+nls (negative
    label smoothing), mlp+vib (information bottleneck), mlp+bido (bilateral dependency), at a strength of their own if
    wanted: mlp+nls:-0.1, mlp+vib:0.1, mlp+bido:0.1. Or one of yours: a file of
    TorchScript (.pt, .ts) or torch.export (.pt2) that takes images [n, 1, H, W], "module:name" of a callable like that,
    of an estimator with predict_proba, or of a class of estimators, which is fitted on the private rows."""
    worst_cases: tuple[str, ...] = ()
    """Defenses of the run that are also asked again with altered queries, and attacked by who simulates other keys and
    by who holds theirs, instead of those that the preset names. Each takes as long as twenty defenses."""
    losses: tuple[str, ...] = ()
    """Losses, "l1" or "mse+ssim", each of which trains one more of the adaptive adversary's networks."""
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
    """Least gain under the strongest adversary."""
    temperature: float | None = None
    """Which of the run's temperatures, where there are several."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line; exits with 2 for a wrong option, 1 if a cell failed, 130 after Ctrl-C.

    Args:
        arguments: instead of the process's own.
    """
    command = tyro.cli(
        Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
        | Annotated[Report, tyro.conf.subcommand("report")]
        | Annotated[Choose, tyro.conf.subcommand("choose")]
        | Annotated[Leaderboard, tyro.conf.subcommand("leaderboard")],
        prog="mipoison",
        args=arguments,
        description="Measure how well confidence vectors can be inverted, and what a defense wins.",
    )
    console = Console(stderr=True)
    try:
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
        f"# {found.name}: g3 {found.gain:.2f} at a mean l1 of {found.l1:.3f} ({found.conditions}).\n"
        "# outputs, inputs: the defender's own data, never private; secret: the deployment's key.\n"
        f"{found.code}"
    )
    return 0


def _evaluate(command: Evaluate, console: Console) -> int:
    configuration = NAMED[command.preset]
    if command.defenses:
        configuration = configuration.with_methods(command.defenses)
    for name in command.outside:
        imported(name)
    if command.outside:
        taking_part = (*configuration.methods, *map(outside, command.outside))
        configuration = replace(configuration, methods=taking_part)
    configuration = replace(
        configuration,
        seeds=command.seeds or configuration.seeds,
        temperatures=command.temperatures or configuration.temperatures,
        dataset=command.dataset or configuration.dataset,
        target=command.target or configuration.target,
        auxiliary=command.auxiliary or configuration.auxiliary,
        worst_case_methods=command.worst_cases or configuration.worst_case_methods,
        adversary=replace(
            configuration.adversary, losses=command.losses or configuration.adversary.losses
        ),
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
