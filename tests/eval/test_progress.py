"""Progress is told in a log too, in few lines, each as soon as it is known."""

import io

import pytest
from rich.console import Console

from mipoison.eval.run.progress import ProgressLines, progress_bars, tick


class Watched(io.StringIO):
    """Counts how often it was flushed."""

    flushed = 0

    def flush(self):
        self.flushed += 1


def lines_of(shares, seconds):
    """What is told of one task of 1000 steps, which is looked at every so many seconds."""
    now, file = iter(range(0, 10**6, seconds)), Watched()
    lines = ProgressLines(["seed 0"], 1000, file=file, clock=lambda: next(now))
    for share in shares:
        lines.show([round(1000 * share)])
    lines.end()
    told = file.getvalue().splitlines()
    assert file.flushed == len(told)
    return told


def test_lines_tell_what_is_left():
    told = lines_of([0.0, 0.25, 0.5, 1.0], seconds=60)
    assert told == [
        "0 of 1 cells finished",
        "0 of 1 cells finished, 0% after 1:00 (under way: seed 0)",
        "0 of 1 cells finished, 25% after 2:00, about 6:00 left (under way: seed 0)",
        "0 of 1 cells finished, 50% after 3:00, about 3:00 left (under way: seed 0)",
        "1 of 1 cells finished, 100% after 4:00",
        "1 of 1 cells finished, 100% after 5:00",
    ]


@pytest.mark.parametrize(("hours", "most"), [(1 / 60, 9), (1, 100), (24, 180)])
def test_a_long_run_has_no_long_log(hours, most):
    count = round(hours * 3600)
    assert 3 < len(lines_of([i / count for i in range(count)], seconds=1)) < most


@pytest.mark.parametrize(
    ("terminal", "redrawn"), [({}, False), ({"TERM": "dumb"}, False), ({"TERM": "xterm"}, True)]
)
def test_bars_stand_where_they_can_be_redrawn(terminal, redrawn):
    file = Watched()
    console = Console(file=file, force_terminal=bool(terminal), _environ=terminal)
    with progress_bars(["seed 0 [red]"], 2, console=console) as files:
        for _ in range(2):
            tick(files[0])
    assert ("\x1b[" in file.getvalue()) == redrawn == ("[red]" in file.getvalue())
    if not redrawn:
        told = file.getvalue().splitlines()
        assert told[0] == "0 of 1 cells finished" and told[-1].startswith("1 of 1 cells finished")
