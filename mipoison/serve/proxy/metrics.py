"""What Prometheus reads: counts, times and moves, summed over the workers. No label or value is of one vector.

With several workers prometheus-client keeps the numbers in files of a folder that PROMETHEUS_MULTIPROC_DIR names, which
has to be set before its import; `mipoison.serve.command` does.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Any, Final

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from mipoison.serve.documents.vectors import Array
from mipoison.serve.readings import Readings

FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
_SECONDS: Final = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
)
_ROWS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096)
_L1: Final = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0)
_PROCESS: Final = re.compile(r"_(\d+)\.db$")


class Metrics:
    """The metrics of one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        made: dict[str, Any] = {"namespace": "mipoison", "registry": self.registry}
        self.requests = Counter(
            "requests", "Requests by status code and reason", ["status", "reason"], **made
        )
        self.rows = Counter("rows", "Rows that were defended", **made)
        self.unchanged = Counter(
            "rows_unchanged", "Rows that went out as they came, to the decimals that go out", **made
        )
        self.safe = Counter("rows_label_only", "Rows answered with their label alone", **made)
        self.dropped = Counter("fields_dropped", "Fields of upstream documents left out", **made)
        self.l1 = Histogram("row_l1", "l1 move of a row", buckets=_L1, **made)
        self.upstream = Histogram(
            "upstream_seconds", "Seconds until the upstream had answered", buckets=_SECONDS, **made
        )
        self.defense = Histogram(
            "defense_seconds", "Seconds to defend a batch", buckets=_SECONDS, **made
        )
        self.total = Histogram("request_seconds", "Seconds of a request", buckets=_SECONDS, **made)
        self.batch = Histogram("batch_rows", "Rows of a batch", buckets=_ROWS, **made)
        alive: dict[str, Any] = {"multiprocess_mode": "livesum", **made}
        self.in_flight = Gauge("requests_in_flight", "Requests being answered", **alive)
        self.queued = Gauge("queue_rows", "Rows that wait or are being defended", **alive)
        self.drift = Gauge("drifting", "Workers that see drift", **alive)
        self.drifts = Counter("drifts", "Times that a worker saw drift begin", **made)
        self._label_only = 0

    def drifted(self, readings: Readings) -> None:
        """Notes that drift has begun or ended."""
        self.drift.set(readings.drifting)
        if readings.drifting:
            self.drifts.inc()

    def moved(self, l1: Array) -> None:
        """Counts the l1 moves of some rows, [N]."""
        for move in l1.tolist():
            self.l1.observe(move)
        self.unchanged.inc(int((l1 < 1e-12).sum()))

    def defended(self, rows: int, seconds: float, *, label_only: int) -> None:
        """Counts a batch.

        Args:
            rows: how many.
            seconds: that it took.
            label_only: rows since the start that were answered with their label alone, because of drift or otherwise.
        """
        self.safe.inc(label_only - self._label_only)
        self._label_only = label_only
        self.rows.inc(rows)
        self.batch.observe(rows)
        self.defense.observe(seconds)

    def page(self) -> bytes:
        """All metrics in Prometheus' text form; with several workers, of all of them."""
        folder = os.environ.get(FOLDER)
        if not folder:
            return generate_latest(self.registry)
        _forget_dead(Path(folder))
        every = CollectorRegistry()
        MultiProcessCollector(every, folder)  # type: ignore[no-untyped-call]
        return generate_latest(every)


CONTENT_TYPE: Final = CONTENT_TYPE_LATEST


def _forget_dead(folder: Path) -> None:
    """Takes what workers that were killed had in flight out of the sums."""
    for file in folder.glob("gauge_live*.db"):
        found = _PROCESS.search(file.name)
        if found is not None and not _is_alive(int(found[1])):
            with contextlib.suppress(FileNotFoundError):
                mark_process_dead(int(found[1]), str(folder))  # type: ignore[no-untyped-call]


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
