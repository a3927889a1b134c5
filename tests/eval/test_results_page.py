"""docs/results.md and the table of docs/defenses.md are what the committed numbers give."""

import runpy
import shutil
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_committed_page_is_the_one_that_the_numbers_give(tmp_path):
    docs = tmp_path / "docs"
    docs.mkdir()
    for script in DOCS.glob("*.py"):
        shutil.copy(script, docs)
    shutil.copy(DOCS / "defenses.md", docs)
    shutil.copytree(DOCS / "study", docs / "study")
    subprocess.run([sys.executable, docs / "results_page.py"], check=True, timeout=120)
    for page in ("results.md", "defenses.md"):
        assert (docs / page).read_text() == (DOCS / page).read_text(), page


def test_targets_that_leak_less_are_counted_from_the_plain_one():
    sys.path.insert(0, str(DOCS))
    try:
        section = runpy.run_path(str(DOCS / "retrained_section.py"))["retrained_section"]
    finally:
        sys.path.remove(str(DOCS))

    def trial(seed, mse):
        return {
            "seed": seed,
            "accuracy": 0.9,
            "label_only": 0.04,
            "A2": 0.05,
            "A3": mse,
            "identity": 0.8,
        }

    kept = {
        "environment": {"processor": "a processor", "date": "a day"},
        "temperature": 3.0,
        "targets": {
            "mlp": [trial(0, 0.02), trial(1, 0.02)],
            "mlp+vib:0.1": [trial(0, 0.03), trial(1, 0.04)],
        },
    }
    assert section(kept).splitlines()[-1] == (
        "| information bottleneck, β = 0.1 | 0.900 ± 0.000 | 0.0500 | 0.0350 | 0.0400 | – | 0.75 ± 0.35 | 80% |"
    )
