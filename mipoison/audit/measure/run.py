"""Measure every system of an audit, each kept as it ends, so that an interrupted audit goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from joblib import Parallel, delayed
from rich.console import Console

from mipoison import __version__
from mipoison.audit.evidence import Evidence
from mipoison.audit.measure.plan import Preset
from mipoison.audit.measure.setting import Setting
from mipoison.audit.measure.systems import Measured, measure_defense, measure_references
from mipoison.eval.adversaries.base import Network
from mipoison.eval.methods import Method
from mipoison.eval.report.results_file import read_arrays, write_arrays
from mipoison.eval.run.engines import end_with_parent, engine_of
from mipoison.eval.run.progress import progress_bars, tick

PARTS: Final = "parts"
# Counts up with every change of what a part holds.
_FORMAT: Final = 2
_SUFFIX: Final = ".npz"


@dataclass(frozen=True)
class Work:
    """What an audit measures, and where its finished parts lie.

    Attributes:
        evidence: inputs and vectors.
        preset: how thorough.
        defenses: what is measured beside the references.
        seeds: each divides the rows and trains everything anew.
        folder: of the parts.
    """

    evidence: Evidence
    preset: Preset
    defenses: tuple[Method, ...]
    seeds: tuple[int, ...]
    folder: Path

    def digest(self) -> str:
        """Of all that the numbers depend on: parts of another audit are not taken for this one's."""
        told = self.preset, self.evidence.columns, self.evidence.image_shape
        known = [_FORMAT, __version__, self.evidence.kind, *map(repr, told)]
        whole = hashlib.sha256(json.dumps(known).encode())
        for rows in (self.evidence.inputs, self.evidence.outputs, self.evidence.groups):
            whole.update(np.ascontiguousarray(rows.numpy()).data)
        return whole.hexdigest()[:12]


def run(
    work: Work, *, jobs: int, console: Console | None = None
) -> list[tuple[Setting, dict[str, Measured]]]:
    """Measures the references and every defense, and returns each seed's rows with what was measured, by name.

    Args:
        work: what to measure.
        jobs: processes of one thread; the numbers do not depend on it.
        console: where the progress goes.

    Raises:
        ValueError: if there are too few rows.
    """
    settings = [Setting.of(work.evidence, work.preset, seed) for seed in work.seeds]
    digest = work.digest()
    work.folder.mkdir(parents=True, exist_ok=True)
    several = len(settings) > 1
    names = ["no defense and label only", *(method.name for method in work.defenses)]
    told = [
        f"seed {setting.seed}, {name}" if several else name
        for setting in settings
        for name in names
    ]
    found = []
    with (
        engine_of("loky"),
        progress_bars(told, settings[0].steps, console=console, unit="measurements") as files,
    ):
        for position, setting in enumerate(settings):
            own = files[position * len(names) : (position + 1) * len(names)]
            baseline = measure_references(setting, lambda file=own[0]: tick(file))  # type: ignore[misc]
            _fill(own[0], setting.steps)
            measured = {one.name: one for one in baseline.references}
            tasks = []
            for method, file in zip(work.defenses, own[1:], strict=True):
                part = work.folder / _part(setting.seed, method, digest)
                tasks.append((method, part, file))
            _finish(setting, baseline.networks, tasks, jobs)
            measured |= {method.name: _read(part) for method, part, _ in tasks}
            found.append((setting, measured))
    return found


def _part(seed: int, method: Method, digest: str) -> str:
    """The file of one measurement."""
    chosen = hashlib.sha256(f"{digest} {method!r}".encode()).hexdigest()[:12]
    return f"seed{seed}-{method.name.replace('.', '_')}-{chosen}{_SUFFIX}"


def _finish(
    setting: Setting,
    networks: Mapping[str, Network],
    tasks: Sequence[tuple[Method, Path, Path]],
    jobs: int,
) -> None:
    """Measures what is not there yet."""
    left = []
    for task in tasks:
        if task[1].exists():
            _fill(task[2], setting.steps)
        else:
            left.append(task)
    parent = os.getpid()
    workers = Parallel(n_jobs=min(jobs, max(1, len(left))), batch_size=1, pre_dispatch="n_jobs")
    workers(delayed(_measure)(setting, networks, *task, parent) for task in left)


def _measure(
    setting: Setting,
    networks: Mapping[str, Network],
    method: Method,
    part: Path,
    file: Path,
    parent: int,
) -> None:
    """One measurement, kept in its file whole or not at all."""
    if parent != os.getpid():
        end_with_parent(parent)
    file.touch()
    _write(part, measure_defense(setting, networks, method, lambda: tick(file)))
    _fill(file, setting.steps)


def _fill(file: Path, steps: int) -> None:
    """Reports what was left out: training that has converged, or a fit that failed."""
    for _ in range(steps - (file.stat().st_size if file.exists() else 0)):
        tick(file)


def _write(part: Path, one: Measured) -> None:
    plain = {
        "name": one.name,
        "family": one.family,
        "budget": one.budget,
        "numbers": one.numbers,
        "variants": one.variants,
        "denoisers": one.denoisers,
    }
    arrays: dict[str, Any] = {
        "plain": np.frombuffer(json.dumps(plain).encode(), np.uint8),
        "errors": one.errors,
        "shown": one.shown,
        "saved": np.frombuffer(one.file, np.uint8),
    }
    write_arrays(part, arrays)


def _read(part: Path) -> Measured:
    arrays: dict[str, Any] = read_arrays(part)
    plain = json.loads(arrays["plain"].tobytes())
    variants = tuple(plain.pop("variants"))
    return Measured(
        **plain,
        variants=variants,
        errors=arrays["errors"],
        shown=arrays["shown"],
        file=arrays["saved"].tobytes(),
    )
