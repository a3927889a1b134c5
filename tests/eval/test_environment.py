"""What a user's environment says changes neither the pictures nor whether a command ends well."""

import os
import shutil
import subprocess
import sys

import matplotlib
import pytest
from later import unless

from mipoison.eval.report.report import write_report

STYLE = {"font.size": 30.0, "axes.facecolor": "red", "savefig.bbox": "tight", "lines.linewidth": 9}
# By what they are to a user; a variable of None is not there.
ENVIRONMENTS = {
    "a notebook's terminal": {
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "PYTHONIOENCODING": "latin-1",
    },
    "a bare container": {
        "HOME": None,
        "LANG": "C",
        "LC_ALL": "C",
        "PYTHONIOENCODING": "ascii",
        "TERM": None,
    },
    "nowhere to write": {
        "HOME": "/nowhere",
        "TMPDIR": "/nowhere",
        "JOBLIB_TEMP_FOLDER": "/nowhere",
    },
    "a narrow terminal": {"COLUMNS": "20", "TERM": "dumb", "NO_COLOR": "1", "FORCE_COLOR": "1"},
}


def figures(run):
    return {path.name: path.read_bytes() for path in (run / "figures").iterdir()}


@pytest.mark.full
def test_a_user_s_style_changes_no_picture(finished, reported, tmp_path):
    styled = shutil.copytree(finished, tmp_path / "styled")
    with matplotlib.rc_context(STYLE):
        write_report(styled)
        assert matplotlib.rcParams["font.size"] == 30
    assert figures(styled) == figures(reported)


@pytest.mark.full
@pytest.mark.parametrize("name", unless(("a bare container",), ENVIRONMENTS))
def test_a_report_is_written_in_any_environment(name, finished, reported, tmp_path):
    run = shutil.copytree(finished, tmp_path / "[red]é世[b]")
    (tmp_path / "matplotlibrc").write_text("".join(f"{k}: {v}\n" for k, v in STYLE.items()))
    environment = {**os.environ, **ENVIRONMENTS[name]}
    done = subprocess.run(
        [sys.executable, "-m", "mipoison", "report", run.name],
        capture_output=True,
        cwd=tmp_path,
        env={key: value for key, value in environment.items() if value is not None},
    )
    told = done.stderr.decode("latin-1").splitlines()
    assert done.returncode == 0, told
    # matplotlib may say that it keeps its fonts elsewhere.
    assert told[-1].startswith("mipoison: report: [red]") and told[-1].endswith("[b]/report.html")
    assert figures(run) == figures(reported)
