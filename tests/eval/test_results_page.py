"""docs/results.md and the table of docs/defenses.md are what the committed numbers give."""

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
