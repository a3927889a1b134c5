"""What `import mipoison` loads, what it needs, and what the console script says without the harness."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import entry_points, requires
from pathlib import Path

import pytest

from mipoison import cli

HEAVY = (
    "cvxpy",
    "entmax",
    "joblib",
    "matplotlib",
    "pandas",
    "rich",
    "scipy",
    "sklearn",
    "torchmetrics",
    "torchvision",
    "triton",
    "tyro",
    "mipoison.eval",
    "mipoison.kernels",
)


def run(program: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The program in a fresh interpreter, away from the repository."""
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=cwd, timeout=120
    )


def test_the_import_is_light(tmp_path: Path) -> None:
    program = f"""
import sys, torch
before = torch.get_num_threads(), torch.get_default_dtype(), torch.random.initial_seed()
import mipoison as mp
print(sorted(name for name in {HEAVY} if name in sys.modules))
print(torch.cuda.is_initialized())
after = torch.get_num_threads(), torch.get_default_dtype(), torch.random.initial_seed()
print(before == after)
# Nor does use load more, but for what torch's own optimisers may.
p = torch.softmax(torch.randn(40, 10), 1)
mp.Defended(torch.nn.Softmax(-1), mp.LPA.fit(p, torch.rand(40, 3)))(torch.randn(4, 10))
mp.lfp(p), mp.backends()
print(sorted(name for name in {HEAVY} if name in sys.modules and name != "triton"))
"""
    done = run(program, tmp_path)
    assert done.stdout.splitlines() == ["[]", "False", "True", "[]"], done.stderr


def test_the_first_line_of_the_readme_works(tmp_path: Path) -> None:
    program = "import mipoison as mp, torch; p=torch.softmax(torch.randn(4,10),1); print(mp.lpa(p))"
    done = run(program, tmp_path)
    assert done.returncode == 0 and done.stdout.startswith("tensor([["), done.stderr


def test_the_public_names() -> None:
    import mipoison as mp

    assert all(hasattr(mp, name) for name in mp.__all__)
    public = {"LFP", "LPA", "Defended", "Surrogate", "backends", "flip", "lfp", "lpa"}
    assert public | {"load", "move", "project", "row_bits", "step"} == set(mp.__all__)
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", mp.__version__)


def test_without_the_extension_there_is_no_import(tmp_path: Path) -> None:
    """A silent fallback to the reference would be a hundred times slower and nobody would know."""
    program = "import sys; sys.modules['mipoison._C'] = None; import mipoison"
    done = run(program, tmp_path)
    assert done.returncode == 1
    assert "import of mipoison._C halted" in done.stderr


# The console script.


def test_the_console_script_is_declared() -> None:
    (script,) = entry_points(group="console_scripts", name="mipoison")
    assert script.value == "mipoison.cli:main"


def test_what_the_harness_needs_is_what_the_extra_installs() -> None:
    extra = [line for line in requires("mipoison") or () if re.search("extra == .eval.", line)]
    names = {re.split(r"[<>=!~\[; ]", line)[0] for line in extra}
    assert {name.replace("scikit-learn", "sklearn") for name in names} == set(cli._NEEDED)


@pytest.mark.parametrize("missing", [["rich"], ["sklearn", "tyro"]])
def test_without_the_harness_the_script_says_what_to_install(
    missing: list[str], tmp_path: Path
) -> None:
    absent = f"import sys; sys.modules.update(dict.fromkeys({missing}))"
    done = run(f"{absent}; from mipoison.cli import main; main()", tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == (
        f"mipoison: the evaluation harness needs {', '.join(missing)}; "
        "install it with: pip install 'mipoison[eval]'\n"
    )


def test_with_the_harness_the_script_hands_over(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[bool] = []
    monkeypatch.setattr("mipoison.eval.cli.main", lambda: calls.append(True))
    cli.main()
    assert calls == [True] and capsys.readouterr().err == ""
    monkeypatch.setattr(cli, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    assert "needs sklearn, torchmetrics, matplotlib, rich, tyro, joblib" in capsys.readouterr().err
