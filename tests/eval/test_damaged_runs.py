"""A run whose files are missing, damaged or of something else is told in one line, by every command that reads one."""

import json
import shutil

import pytest

from mipoison.eval import cli
from mipoison.eval.run import experiment

READERS = {
    "report": lambda run: ["report", run],
    "choose": lambda run: ["choose", run, "--max-l1", "1", "--temperature", "3"],
    "leaderboard": lambda run: ["leaderboard", f"{run}-board", run],
}
CONTENTS = {
    "empty": "",
    "cut off": '{"configuration": {',
    "text": "hello",
    "nested": "[" * 100_000,
    "bytes": b"\xff\xfe\x00",
    "list": "[]",
    "no parts": "{}",
    "wrong parts": '{"configuration": [], "summary": 3, "environment": {}}',
    "hollow": '{"configuration": {}, "summary": {"3": {}}, "environment": {}}',
    "other summary": None,
}


@pytest.fixture
def run(finished, tmp_path):
    """A copy of a finished run."""
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def write(path, content):
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content)


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("command", READERS)
def test_results_that_are_none(command, content, run, one_line):
    file = run / "results.json"
    told = CONTENTS[content]
    if told is None:
        plain = json.loads(file.read_text())
        plain["summary"]["3"]["defenses"] = {}
        plain["cells"] = [{}]
        told = json.dumps(plain)
    write(file, told)
    line = one_line(READERS[command](str(run)))
    assert str(file) in line and "remove it and run `mipoison evaluate` again" in line


@pytest.mark.parametrize("command", READERS)
@pytest.mark.parametrize("kind", ["nowhere", "empty", "file"])
def test_folders_that_hold_no_run(command, kind, tmp_path, one_line):
    run = tmp_path / "run"
    if kind == "empty":
        run.mkdir()
    if kind == "file":
        run.write_text("hello")
    line = one_line(READERS[command](str(run)))
    assert str(run) in line


def test_pictures_that_are_none(run, one_line):
    (run / "reconstructions.npz").write_text("hello")
    line = one_line(["report", str(run)])
    assert "reconstructions.npz: expected arrays, got a damaged file" in line


@pytest.mark.parametrize("name", ["seed100-T3-*.json", "seed100-T3-*.npz", "named-files.json"])
def test_a_damaged_part_is_named_before_any_cell_starts(
    name, run, tiny, one_line, monkeypatch, tmp_path
):
    monkeypatch.setitem(cli.NAMED, "quick", tiny)
    monkeypatch.setattr(experiment, "run_cell", lambda *given, **named: pytest.fail("a cell ran"))
    # One cell is left to run.
    for path in run.glob("cells/seed100-T1_5-*"):
        path.unlink()
    (file,) = [*run.glob(f"cells/{name}"), *run.glob("config.json")][:1]
    if name.startswith("named"):
        file = run / name
    file.write_text("[]")
    line = one_line(["evaluate", "--preset", "quick", "--out", str(run)])
    assert str(file) in line and "remove it" in line


def test_a_cell_without_its_pictures_is_run_again(run, tiny, monkeypatch):
    (file,) = run.glob("cells/seed100-T3-*.npz")
    file.unlink()
    assert experiment.run(tiny, run).complete and file.exists()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("runs.json", "hello", "damaged"),
        ("runs.json", "[]", "got list"),
        ("runs.json", "{}", "expected the same runs"),
        ("runs.json", '{"run": {}}', "KeyError: 'configuration'"),
        ("results.csv", "hello", "expected the columns"),
        ("results.csv", "", "expected the columns"),
        ("results.csv", "run,temperature,defense,seed,x\nrun,3,none,0,y\n", "column x of run run"),
        ("results.csv", 'run,temperature,defense,seed\n"run', "expected CSV"),
    ],
)
def test_damaged_leaderboard_is_named(name, content, said, run, tmp_path, one_line, capsys):
    board = tmp_path / "board"
    cli.main(["leaderboard", str(board), str(run)])
    capsys.readouterr()
    (board / name).write_text(content)
    line = one_line(["leaderboard", str(board)])
    assert str(board / name) in line and said in line


COMMANDS = [
    ("choose RUN", "expected one of --max-l1, --min-gain and --certified, got none or several"),
    ("choose RUN --max-l1 1 --min-gain 1", "expected one of --max-l1, --min-gain and --certified"),
    ("choose RUN --max-l1 1", "--temperature: expected one of 1.5, 3, got None"),
    ("choose RUN --max-l1 x", "--max-l1"),
    ("choose", "choose --help"),
    ("report", "expected a folder that `mipoison evaluate` wrote, got none"),
    ("report RUN --out x", "--out: expected none for one run"),
    ("report RUN RUN --out RUN", "out: expected a new folder"),
    ("leaderboard", "leaderboard --help"),
    ("leaderboard RUN-board RUN RUN", "expected folders of different names"),
]


@pytest.mark.parametrize(("given", "said"), COMMANDS)
def test_arguments_that_do_not_fit(given, said, run, one_line):
    line = one_line(given.replace("RUN", str(run)).split())
    assert said.replace("RUN", str(run)) in line


@pytest.mark.full
def test_a_folder_that_may_not_be_written_is_named(run, one_line, monkeypatch):
    def refuse(path, *given, **named):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.write_bytes", refuse)
    line = one_line(["report", str(run)])
    assert "Permission denied; give the right to it, or choose another path" in line
