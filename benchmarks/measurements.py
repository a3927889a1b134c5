"""Reads the files of benchmarks/results: pytest-benchmark's JSON, with conditions and medians in `extra_info`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Measurement:
    """One race: its conditions, and the median seconds of n rows for each contestant. Ours comes first."""

    conditions: dict[str, Any]
    seconds: dict[str, float]

    def __getattr__(self, name: str) -> Any:
        """A condition by its name; None where the suite did not record it."""
        if name.startswith("__"):
            raise AttributeError(name)
        return self.conditions.get(name)

    @property
    def ours(self) -> float:
        """Seconds of our operation."""
        return next(iter(self.seconds.values()))

    @property
    def bandwidth(self) -> float:
        """Bytes a second: the least bytes that the operation must move ÷ its seconds."""
        return float(self.bytes) / self.ours

    def ratio_to(self, rival: str) -> float | None:
        """Our time ÷ a rival's; None where the rival did not run."""
        return self.ours / self.seconds[rival] if rival in self.seconds else None

    def speedup_over(self, rival: str) -> float | None:
        """A rival's time ÷ ours; None where the rival did not run."""
        return self.seconds[rival] / self.ours if rival in self.seconds else None


@dataclass(frozen=True)
class Run:
    """The content of one file: its measurements and their machine."""

    name: str
    date: str
    commit: str
    machine: dict[str, Any]
    measurements: tuple[Measurement, ...]

    @property
    def device(self) -> str:
        """The device that was measured."""
        return str(self.measurements[0].device)


def read(path: Path) -> Run:
    """Reads a run from its file.

    Raises:
        ValueError: if the file holds no benchmark with seconds in `extra_info`.
    """
    content = json.loads(path.read_text())
    raced = [
        Measurement(extra, extra["seconds"])
        for extra in (entry["extra_info"] for entry in content.get("benchmarks", ()))
        if "seconds" in extra
    ]
    if not raced:
        raise ValueError(
            f"expected {path} to hold benchmarks with seconds in extra_info, got none; "
            "write it with pytest benchmarks --benchmark-only --benchmark-json FILE"
        )
    commit = content["commit_info"]
    changed = " and uncommitted changes" if commit.get("dirty") else ""
    return Run(
        name=path.name,
        date=content["datetime"][:10],
        commit=commit.get("id", "unknown")[:7] + changed,
        machine=content["machine_info"],
        measurements=tuple(raced),
    )


def find(measurements: Iterable[Measurement], **conditions: Any) -> Measurement | None:
    """The last measurement under these conditions: a later file replaces an earlier one."""
    found = [
        one
        for one in measurements
        if all(getattr(one, name) == value for name, value in conditions.items())
    ]
    return found[-1] if found else None


def values(measurements: Sequence[Measurement], name: str) -> list[Any]:
    """The distinct values of a condition: integers sorted, other values in order of appearance."""
    seen = list(dict.fromkeys(getattr(one, name) for one in measurements))
    return sorted(seen) if all(isinstance(value, int) for value in seen) else seen
