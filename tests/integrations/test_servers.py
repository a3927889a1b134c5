"""The programs of examples/servers: each starts a server, asks it, checks its answers, and stops it."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import requires, version
from pathlib import Path

import pytest

SERVERS = Path(__file__).parents[2] / "examples" / "servers"
pytestmark = pytest.mark.usefixtures("asked_for")


def test_no_library_of_the_extras_is_missing() -> None:
    """Where one is, its tests are skipped, and nobody would know."""
    lines = [
        line
        for line in requires("mipoison") or ()
        if re.search("extra == .(integrations|onnx).", line)
    ]
    names = [re.split(r"[<>=!~\[; ]", line)[0] for line in lines]
    assert len(names) >= 10 and all(version(name) for name in names)


@pytest.mark.parametrize("path", sorted(SERVERS.glob("with_*.py")), ids=lambda path: path.stem)
def test_server(path: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, path], capture_output=True, text=True, cwd=tmp_path, timeout=400
    )
    assert done.returncode == 0, done.stdout + done.stderr
    # (Ray prints lines of its own.)
    assert re.search(r"(?m)^mean l1: 0\.\d{3}, labels changed: 0$", done.stdout), done.stdout
