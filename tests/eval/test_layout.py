"""The harness reads from top to bottom: few floors of imports, few files a folder, and folders import downwards."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from mipoison import eval as harness

ROOT = Path(harness.__file__).parent
# Each folder imports only from those before it. The modules at the top come in two groups: those that every folder may
# use, and those that use the folders.
FOLDERS = ("data", "targets", "adversaries", "scores", "report", "run")
BELOW = {"scalars", "metrics", "outside", "strengths", "methods"}
ABOVE = {"", "cli", "options", "presets"}
# What an experiment is: it holds the adversaries' settings, and no numbers.
CONFIGURATION = "configuration"
FLOORS, FILES, LINES = 6, 12, 310


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {name_of(path): path for path in ROOT.rglob("*.py")}


@cache
def imports(name: str) -> frozenset[str]:
    """The modules of the harness that a module imports, wherever in it the statement stands."""
    prefix = f"{harness.__name__}."
    found = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports by a relative name"
            module = str(node.module)
            submodules = {f"{module}.{alias.name}" for alias in node.names}
            known = {one for one in submodules if one.removeprefix(prefix) in MODULES}
            found |= known or {module}
    inner = {one.removeprefix(prefix) for one in found if one.startswith(prefix)}
    return frozenset((inner & set(MODULES)) - {name})


@cache
def floor(name: str) -> int:
    """1 for a module that imports no other, and else one more than the highest that it imports."""
    return 1 + max((floor(other) for other in imports(name)), default=0)


def rank(name: str) -> float:
    """Where a module stands in the order of imports."""
    folder = name.partition(".")[0]
    if folder in FOLDERS:
        return 1 + FOLDERS.index(folder)
    if folder == CONFIGURATION:
        return FOLDERS.index("adversaries") + 1.5
    assert folder in BELOW | ABOVE, f"{name} has no place in the order of imports"
    return 0 if folder in BELOW else 1 + len(FOLDERS)


def test_an_experiment_has_six_floors():
    too_high = {name: floor(name) for name in MODULES if floor(name) > FLOORS}
    assert not too_high
    assert floor("cli") == FLOORS


def test_folders_import_downwards():
    upwards = [
        f"{name} imports {other}"
        for name in MODULES
        for other in imports(name)
        if rank(other) > rank(name)
    ]
    assert not upwards


def test_packages_import_nothing():
    """So that a module of a folder costs what itself needs, and floors are those of modules."""
    packages = [name for name, path in MODULES.items() if path.name == "__init__.py"]
    assert len(packages) == 1 + len(FOLDERS) and not any(imports(name) for name in packages)


def test_folders_are_small():
    for folder in ("", *FOLDERS):
        files = [path for path in (ROOT / folder).glob("*.py") if path.name != "__init__.py"]
        assert 0 < len(files) <= FILES, folder
    lines = {name: len(path.read_text().splitlines()) for name, path in MODULES.items()}
    assert not {name: count for name, count in lines.items() if count > LINES}
