"""A defense from outside takes part by its name, as the docs say, and a wrong one is refused with a reason."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mipoison.eval import cli
from mipoison.eval.outside import outside_defense, try_out
from mipoison.eval.presets import outside
from mipoison.eval.report import leaderboard

DOCS = Path(__file__).parents[2] / "docs/guides/add-a-defense.md"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with the example of the docs and some defenses that are none."""
    code = re.search(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL).group(1)
    assert len([line for line in code.splitlines() if line.strip()]) <= 20
    (tmp_path / "halves.py").write_text(code)
    (tmp_path / "wrong.py").write_text(
        "import numpy as np\n"
        "def array(p): return np.asarray(p)\n"
        "def short(p): return p[:, 1:]\n"
        "def negative(p): return 2 * p - 1\n"
        "def missing(p): return p * float('nan')\n"
        "import torch\n"
        "def fresh(p): return torch.softmax(p + 0.1 * torch.randn_like(p), 1)\n"
        "number = 3\n"
        "def leaving(p): raise SystemExit(5)\n"
        "def inplace(p): p[:, 0] = 1; p[:, 1:] = 0; return p\n"
        "class Inplace:\n"
        "    @staticmethod\n"
        "    def fit(outputs, inputs, key, seed): outputs.zero_(); inputs.add_(1); return inplace\n"
        "kept = torch.zeros(30, 4)\n"
        "def buffered(p): return kept.copy_(p)\n"
    )
    (tmp_path / "broken.py").write_text("import not_there_at_all\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in ("halves", "wrong", "broken"):
        sys.modules.pop(name, None)


def world():
    p = torch.softmax(torch.randn((30, 4), generator=torch.Generator().manual_seed(0)), 1)
    return p, torch.zeros(30, 2)


def build(name):
    return outside_defense(name, *world(), key=1, seed=2)


def test_the_example_of_the_docs_is_fitted(folder):
    p, _ = world()
    q = build("halves:HalfWay")(p)
    assert torch.equal(q.argmax(1), p.argmax(1)) and not torch.equal(p, q)


@pytest.mark.parametrize("name", ["inplace", "Inplace", "buffered"])
def test_one_that_works_in_place_changes_nobody_s_numbers(folder, name):
    p, inputs = world()
    before = p.clone()
    defend = outside_defense(f"wrong:{name}", p, inputs, key=1, seed=2)
    first = defend(p)
    kept = first.clone()
    defend(p.flip(0))
    assert torch.equal(p, before) and not inputs.any()
    assert torch.equal(first, kept)


def test_arrays_are_welcome(folder):
    p, _ = world()
    np.testing.assert_array_equal(build("wrong:array")(p), p)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("wrong", "expected module:name, got 'wrong'"),
        ("wrong:nothing", "expected wrong to have nothing"),
        ("nowhere:thing", "expected a module nowhere in"),
        ("wrong:number", "wrong:number: expected it to be callable.*got int"),
    ],
)
def test_names_that_refer_to_no_defense_are_refused(folder, name, said):
    with pytest.raises(ValueError, match=said):
        build(name)


def test_a_module_that_fails_by_itself_says_why(folder):
    with pytest.raises(ValueError, match="it imports not_there_at_all, which is not installed"):
        build("broken:thing")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("short", r"expected answers of shape \[30, 4\], got \[30, 3\]"),
        ("negative", "expected probability vectors, got 30 rows that are none"),
        ("missing", "expected probability vectors, got 30 rows that are none"),
    ],
)
def test_answers_that_are_no_vectors_are_refused(folder, name, said):
    p, _ = world()
    with pytest.raises(ValueError, match=said):
        build(f"wrong:{name}")(p)


def test_one_that_ends_the_process_is_named(folder):
    with pytest.raises(
        ValueError, match=r"wrong:leaving, asked with 8 vectors.* raised SystemExit: 5"
    ):
        try_out("wrong:leaving", 4)


ODD = """
class Own(BaseException): pass
class Lazy:
    @property
    def fit(self): raise RuntimeError("boom")
lazy = Lazy()
def generator(p): raise GeneratorExit
def __getattr__(name): raise RuntimeError("boom " + name)
"""


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("odd:lazy", "odd:lazy, asked for its fit, raised RuntimeError: boom"),
        ("odd:nowhere", "odd:nowhere: odd, asked for nowhere, raised RuntimeError: boom nowhere"),
        ("odd:generator", "asked with 8 vectors of 4 classes, raised GeneratorExit"),
        ("raising:x", "raising:x: raising, imported, raised Own"),
    ],
)
def test_whatever_others_code_raises_is_told_in_one_line(folder, name, said):
    (folder / "odd.py").write_text(ODD)
    (folder / "raising.py").write_text("class Own(BaseException): pass\nraise Own()\n")
    try:
        with pytest.raises(ValueError, match=said):
            try_out(name, 4)
    finally:
        sys.modules.pop("odd", None)


def test_an_import_that_is_interrupted_is_no_success(folder, capsys):
    (folder / "stopping.py").write_text("raise KeyboardInterrupt\n")
    with pytest.raises(SystemExit) as stopped:
        cli.main(["evaluate", "--outside", "stopping:x", "--out", "run"])
    assert stopped.value.code == 130 and "interrupted" in capsys.readouterr().err


def test_it_runs_by_the_command_line_and_gets_on_the_leaderboard(folder, monkeypatch, tiny, capsys):
    monkeypatch.setitem(cli.NAMED, "quick", replace(tiny, temperatures=(3.0,)))
    cli.main(
        [
            "evaluate",
            "--preset",
            "quick",
            "--outside",
            "halves:HalfWay",
            "--out",
            "run",
            "--jobs",
            "1",
        ]
    )
    results = json.loads((folder / "run/results.json").read_text())
    assert "halves:HalfWay" in results["summary"]["3"]["defenses"]
    assert "halves:HalfWay" in (folder / "run/report.html").read_text()
    for _ in range(2):
        cli.main(["leaderboard", "board", "run"])
    part = leaderboard.read(folder / "board")["run"]["summary"]["3"]
    assert set(part["defenses"]) == {"none", "label-only", "rounding-1", "halves:HalfWay"}
    page = (folder / "board/leaderboard.md").read_text()
    assert "| halves:HalfWay |" in page and "## digits, mlp, T = 3" in page
    # By the page alone: from the least distortion up.
    shown = [float(l1) for l1 in re.findall(r"^\| [^|]+ \| (\d\.\d+)", page, re.MULTILINE)]
    assert len(shown) == 4 and shown == sorted(shown)


def test_a_wrong_name_is_refused_before_anything_runs(folder, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["evaluate", "--outside", "nowhere:thing", "--out", "run"])
    assert stopped.value.code == 2 and "expected a module nowhere" in capsys.readouterr().err
    assert not (folder / "run").exists()


def test_nothing_to_show_is_said(folder, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["leaderboard", "board"])
    assert stopped.value.code == 2 and "expected runs in board" in capsys.readouterr().err


def test_a_method_of_it_is_like_any_other():
    assert outside("a.b:c").options == (("callable", "a.b:c"),)


@pytest.mark.full
def test_fresh_noise_is_told(folder, tiny, monkeypatch):
    monkeypatch.setitem(cli.NAMED, "quick", tiny)
    given = ["--preset", "quick", "--temperatures", "3", "--jobs", "1", "--out", "out"]
    cli.main(["evaluate", *given, "--outside", "wrong:fresh"])
    for page in ("summary.md", "report.html"):
        text = (folder / "out" / page).read_text()
        assert "Asked again, wrong:fresh answers 0% of the rows as before" in text
