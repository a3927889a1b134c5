"""The examples of Ray Data, Dask and Spark run on local clusters; left out where the library is not installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("example", "library"),
    [("defend_ray_data", "ray"), ("defend_dask", "distributed"), ("defend_spark", "pyspark")],
)
def test_example_runs_on_a_local_cluster(example: str, library: str) -> None:
    # (Not imported, which takes seconds.)
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    if library == "pyspark" and shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        pytest.skip("Spark needs Java")
    done = subprocess.run(
        [sys.executable, str(ROOT / f"examples/{example}.py")],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"RAY_USAGE_STATS_ENABLED": "0"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("defended 2000 rows, as the defense itself does\n")
