"""The README's code runs as it stands, its numbers are the committed run's, and its files exist."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
NAMES = {
    "LPA decoy, epsilon 0.2": "lpa-decoy-0.2",
    "Laplace noise": "laplace-0.2",
    "Laplace noise at the same distortion": "laplace-0.2",
    "rounding to one decimal": "rounding-1",
}


def test_the_ten_lines_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    assert (tmp_path / "lpa.safetensors").exists()


def test_the_table_is_the_committed_run() -> None:
    summary = json.loads((ROOT / "docs/demo/results.json").read_text())["summary"]
    rows = re.findall(r"^\| (\w.*?) \| (\d) \| (.*) \|$", README, re.MULTILINE)
    assert len(rows) == 6
    for name, temperature, numbers in rows:
        measured = summary[temperature]["defenses"][NAMES[name]]
        g2, g3, median, l1, changed = numbers.split(" | ")
        assert g2 == f"{measured['A2.gain']['mean']:.2f}"
        assert g3 == f"{measured['A3.gain']['mean']:.2f}"
        assert median == f"{measured['A3.median']['mean']:.2f}"
        assert l1 == f"{measured['utility.l1_mean']['mean']:.3f}"
        assert changed == f"{measured['utility.labels_changed']['max']:.0f}"


def test_what_it_points_to_exists() -> None:
    targets = re.findall(r"\]\((?!http)([^)]+)\)", README)
    assert len(targets) >= 6
    for target in targets:
        assert (ROOT / target).exists(), target
