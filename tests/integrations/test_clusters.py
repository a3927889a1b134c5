"""The examples of Ray Data, Dask and Spark run on local clusters; Spark needs Java."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("example", ["defend_ray_data", "defend_dask", "defend_spark"])
def test_example_runs_on_a_local_cluster(example: str, asked_for: None) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / f"examples/{example}.py")],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"RAY_USAGE_STATS_ENABLED": "0"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("defended 2000 rows, as the defense itself does\n")
