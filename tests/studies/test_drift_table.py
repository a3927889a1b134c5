"""The guide shows the numbers that are kept."""

from __future__ import annotations

from pathlib import Path

import drift


def test_the_guide_has_the_table_of_the_kept_numbers() -> None:
    guide = Path(drift.__file__).parents[1] / "docs/guides/watch-the-traffic.md"
    assert drift.table() in guide.read_text(encoding="utf-8")
