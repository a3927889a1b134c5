"""What `import mipoison` loads, what it needs, and what the console script says without the harness."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import entry_points, requires
from pathlib import Path

import pytest
from fresh import run
from later import later, unless

from mipoison import cli

HEAVY = (
    "cvxpy",
    "entmax",
    "httpx",
    "jinja2",
    "joblib",
    "matplotlib",
    "pandas",
    "prometheus_client",
    "pyarrow",
    "rich",
    "scipy",
    "sklearn",
    "starlette",
    "torchmetrics",
    "torchvision",
    "triton",
    "tyro",
    "uvicorn",
    "mipoison.audit",
    "mipoison.eval",
    "mipoison.integrations",
    "mipoison.kernels",
)


def test_the_import_is_light(tmp_path: Path) -> None:
    program = f"""
import sys, torch
before = torch.get_num_threads(), torch.get_default_dtype(), torch.random.initial_seed()
import mipoison as mp
from mipoison.defenses import Purifier
print(sorted(name for name in {HEAVY} if name in sys.modules))
print(torch.cuda.is_initialized())
after = torch.get_num_threads(), torch.get_default_dtype(), torch.random.initial_seed()
print(before == after)
torch.set_num_threads(1)
# Nor does use load more: not even torch's compiler, whose import takes longer than a small fit.
p, x = torch.softmax(torch.randn(40, 10), 1), torch.rand(40, 3)
mp.Defended(torch.nn.Softmax(-1), mp.LPA.fit(p, x))(torch.randn(4, 10))
mp.LPA.fit(p, x, objective="decoy")(p), mp.LFP.fit(p, x)(p), Purifier.fit(p, epochs=1)(p)
mp.lfp(p), mp.backends()
print(sorted(name for name in {(*HEAVY, "torch._dynamo")} if name in sys.modules))
"""
    done = run(program, tmp_path)
    assert done.stdout.splitlines() == ["[]", "False", "True", "[]"], done.stderr


def test_the_first_example_of_the_readme_runs(tmp_path: Path) -> None:
    program = "import mipoison as mp, torch; p=torch.softmax(torch.randn(4,10),1); print(mp.lpa(p))"
    done = run(program, tmp_path)
    assert done.returncode == 0 and done.stdout.startswith("tensor([["), done.stderr


def test_the_public_names() -> None:
    import mipoison as mp

    assert all(hasattr(mp, name) for name in mp.__all__)
    public = {
        "LFP",
        "LPA",
        "Certificate",
        "Defended",
        "Deferred",
        "Key",
        "Drift",
        "Meter",
        "Surrogate",
        "backends",
        "certify",
        "flip",
        "lfp",
        "lpa",
    }
    public |= {"load", "move", "perturb", "project", "quantize", "recover", "row_bits", "step"}
    assert public == set(mp.__all__)
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", mp.__version__)


def test_import_without_the_extension_raises(tmp_path: Path) -> None:
    """A silent fallback to the reference would be a hundred times slower and nobody would know."""
    program = "import sys; sys.modules['mipoison._C'] = None; import mipoison"
    done = run(program, tmp_path)
    assert done.returncode == 1
    assert "import of mipoison._C halted" in done.stderr


# The console script.


def test_the_console_script_is_declared() -> None:
    (script,) = entry_points(group="console_scripts", name="mipoison")
    assert script.value == "mipoison.cli:main"


# Packages that are imported under another name, and those that only old Pythons need.
IMPORTED = {"scikit-learn": "sklearn", "prometheus-client": "prometheus_client"}


@pytest.mark.parametrize("extra", cli._NEEDED)
def test_extras_install_what_their_commands_import(extra: str) -> None:
    lines = [line for line in requires("mipoison") or () if re.search(f"extra == .{extra}.", line)]
    names = {re.split(r"[<>=!~\[; ]", line)[0] for line in lines if "python_version" not in line}
    assert {IMPORTED.get(name, name) for name in names} == set(cli._NEEDED[extra])


EVALUATING = tuple(name for name in cli.COMMANDS if name not in cli._EXTRAS)


@pytest.mark.parametrize(
    ("command", "missing", "extra"),
    [
        *((name, ["sklearn", "tyro"], "eval") for name in unless(("evaluate",), EVALUATING)),
        *later(*((name, ["rich"], "eval") for name in EVALUATING)),
        ("serve", ["uvicorn", "httpx"], "serve"),
        ("defend", ["pyarrow"], "arrow"),
    ],
)
def test_without_an_extra_a_command_says_what_to_install(
    command: str, missing: list[str], extra: str, tmp_path: Path
) -> None:
    done = run(f"{REFUSING.format(missing)}main(['{command}'])", tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == (
        f"mipoison: {command} needs {', '.join(missing)}; "
        f"install them with: pip install 'mipoison[{extra}]'\n"
    )


INSTALL = r"pip install 'mipoison\[(eval|serve|arrow)\]'"
# Refuses modules as an environment without them does, before anything has asked for them.
REFUSING = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in {0}:
            raise ModuleNotFoundError(f'No module named {{name}}', name=name)
sys.meta_path.insert(0, Refuse())
from mipoison.cli import main
"""


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--version"], r"mipoison \d+\.\d+\.\d+"),
        (["--help"], r"(?s)evaluate.*report.*choose.*leaderboard.*\[eval\]"),
        *later((["-h"], "usage: mipoison")),
        (["evaluate", "--help"], INSTALL),
        *later(*(([name, "--help"], INSTALL) for name in cli.COMMANDS if name != "evaluate")),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else "",
)
def test_help_and_version_need_no_extra(given: list[str], said: str, tmp_path: Path) -> None:
    done = run(f"{REFUSING.format(sum(cli._NEEDED.values(), ()))}main({given})", tmp_path)
    assert (done.returncode, done.stderr) == (0, "") and re.search(said, done.stdout)


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("import not_there_at_all", "report needs not_there_at_all; install it with: pip"),
        ("from math import not_there_at_all", "math is installed and does not load"),
        ("raise ImportError('halved')", r"a package is installed and does not load \(halved\)"),
    ],
)
def test_an_extra_that_does_not_load_is_named(module: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "tyro.py").write_text(module)
    done = run("from mipoison.cli import main; main(['report'])", tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert re.search(said, done.stderr)


def test_the_package_runs_as_a_module(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mipoison", "--version"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0 and done.stdout.startswith("mipoison "), done.stderr


@pytest.mark.parametrize("given", [["wish"], ["--wish"]])
def test_unknown_command_lists_the_known_ones(
    given: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(given)
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and all(name in told for name in cli.COMMANDS)


@pytest.mark.parametrize(("reader", "code"), [*later(("true", 1)), ("cat > /dev/full", 2)])
def test_broken_pipe_prints_no_traceback(reader: str, code: int, tmp_path: Path) -> None:
    into = f"> {reader[6:]}" if reader.startswith("cat") else f"| {reader}"
    shell = f"set -o pipefail; {sys.executable} -m mipoison --help {into}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == code and done.stderr.count("\n") == code - 1


@pytest.mark.parametrize("given", ["--version", *later("evaluate --help", "--help", "")])
def test_no_output_is_no_traceback(given: str, tmp_path: Path) -> None:
    shell = f"{sys.executable} -m mipoison {given} >&-"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, cwd=tmp_path)
    assert "Traceback" not in done.stderr and done.returncode == (0 if given else 2)


def test_script_calls_the_harness(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[list[str]] = []
    monkeypatch.setattr("mipoison.eval.cli.main", calls.append)
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    cli.main(["report", "run"])
    assert calls == [["report", "run"]] and capsys.readouterr().err == ""
    assert os.environ["MPLBACKEND"] == "agg"
    monkeypatch.setattr(cli, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="2"):
        cli.main(["report", "run"])
    assert (
        "needs sklearn, torchmetrics, matplotlib, rich, tyro, joblib, jinja2"
        in capsys.readouterr().err
    )
