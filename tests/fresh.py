"""Programs in interpreters of their own that have imported torch already, which takes longer than most of them."""

from __future__ import annotations

import functools
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import traceback
import types
from pathlib import Path
from typing import Any

# A server that has imported torch and nothing of the package, and is forked for each program.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["torch"])


def run(
    program: str, cwd: Path | None = None, env: dict[str, str] | None = None, timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """What `python -c program` would print and return.

    Args:
        program: runs as `__main__`.
        cwd: its working folder; this process's if it is left out.
        env: its environment, as far as Python and torch have not read it yet; likewise.
        timeout: seconds after which the test fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        printed = Path(folder, "out"), Path(folder, "err")
        arguments = (program, cwd or Path.cwd(), env or dict(os.environ), printed, _search_path())
        process = _CONTEXT.Process(target=_run, args=arguments)
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise TimeoutError(f"expected an end within {timeout} seconds, got none: {program}")
        out, err = (path.read_text() for path in printed)
        return subprocess.CompletedProcess(["-c", program], process.exitcode, out, err)


@functools.cache
def _search_path() -> list[str]:
    """`sys.path` of `python -c`: this process's has the folders of the tests, too."""
    show = "import json, sys; print(json.dumps(sys.path))"
    shown = subprocess.run([sys.executable, "-c", show], capture_output=True, check=True)
    path: list[str] = json.loads(shown.stdout)
    return path


def _run(
    program: str, cwd: Path, env: dict[str, str], printed: tuple[Path, Path], path: list[str]
) -> None:
    for descriptor, to in enumerate(printed, start=1):
        os.dup2(os.open(to, os.O_WRONLY | os.O_CREAT), descriptor)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.path[:], sys.argv = path, ["-c"]
    main: Any = types.ModuleType("__main__")
    sys.modules["__main__"] = main
    try:
        exec(compile(program, "<string>", "exec"), main.__dict__)
    except Exception:
        traceback.print_exc()
        sys.exit(1)
