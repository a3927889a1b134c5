"""Leaderboard: an entry of an older format says what to do, and strangers are another setting."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mipoison.eval import leaderboard

DOCS = Path(__file__).parents[2] / "docs"


def test_an_entry_of_an_older_format_is_named(finished, tmp_path):
    results = json.loads((finished / "results.json").read_text())
    written = leaderboard.add(results, tmp_path)
    entry = json.loads(written[0].read_text())
    written[0].write_text(json.dumps(entry | {"format": 1}))
    with pytest.raises(ValueError, match=r"format 2 in .*, got 1; remove it, and add its run anew"):
        leaderboard.write_page(tmp_path)


def test_an_entry_from_before_the_deeper_network_names_one_floor(finished, tmp_path):
    results = json.loads((finished / "results.json").read_text())
    written = leaderboard.add(results, tmp_path)
    assert "down to 1e-06 and 1e-30)" in leaderboard.write_page(tmp_path).read_text()
    for path in written:
        entry = json.loads(path.read_text())
        del entry["setting"]["adversary"]["deep_floor"]
        path.write_text(json.dumps(entry))
    assert "down to 1e-06)" in leaderboard.write_page(tmp_path).read_text()


def test_strangers_are_a_setting_of_their_own(tiny, finished, tmp_path):
    results = json.loads((finished / "results.json").read_text())
    configuration = replace(tiny, auxiliary="other")
    changed = results | {"configuration": configuration.to_json()}
    same, other = (leaderboard.add(found, tmp_path) for found in (results, changed))
    assert not {path.parent for path in same} & {path.parent for path in other}
    text = leaderboard.write_page(tmp_path).read_text()
    assert text.count("Auxiliary rows of other classes.") == len(results["summary"])


def test_the_committed_entries_are_those_of_the_committed_studies(tmp_path):
    # As `make study` lists them: what two runs both measured is that of the later.
    data = ("mnist", "mnist-confident", "faces", "faces-confident")
    compared = {"standard", *(f"study-{name}" for name in data)}
    rest = {"more-digits", *(f"more-{name}" for name in data)}
    files = {name: DOCS / f"study/{name}.json" for name in sorted(compared | rest)}
    board = [file for name, file in files.items() if name in compared or file.exists()]
    written = [
        path.relative_to(tmp_path)
        for study in board
        for path in leaderboard.add(json.loads(study.read_text()), tmp_path)
    ]
    ours = DOCS / "leaderboard"
    # Whoever adds a defense adds to a setting; a setting that no study is run in any more is of before.
    assert {path.parts[0] for path in written} == {
        path.name for path in ours.iterdir() if path.is_dir()
    }
    for path in written:
        assert (ours / path).read_text() == (tmp_path / path).read_text(), path
