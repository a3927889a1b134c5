"""The programs in examples/ run, and the documentation's reference has every public name."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

import mipoison as mp
from mipoison import defenses

ROOT = Path(__file__).parents[1]
# Those of clusters are tested in integrations/test_clusters.py.
CLUSTERS = ("defend_ray_data", "defend_dask", "defend_spark")
ALONE = [path for path in sorted((ROOT / "examples").glob("*.py")) if path.stem not in CLUSTERS]


@pytest.mark.parametrize("path", ALONE, ids=lambda p: p.stem)
def test_example_runs(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out.count("\n") == 1


def test_the_reference_has_every_public_name() -> None:
    pages = "".join(page.read_text() for page in (ROOT / "docs/api").glob("*.md"))
    shown = {name.rpartition(".")[2] for name in re.findall(r":: ([\w.]+)", pages)}
    assert {*mp.__all__, *defenses.__all__} <= shown
