"""Every tensor that the library makes has a dtype and a device of its own: the caller's defaults have no say."""

from __future__ import annotations

import ast
from pathlib import Path

import mipoison

ROOT = Path(mipoison.__file__).parent
# The harness and the audit are programs of their own, whose processes are their own.
PROGRAMS = {"eval", "audit"}
FILES = [
    path for path in sorted(ROOT.rglob("*.py")) if not PROGRAMS & set(path.relative_to(ROOT).parts)
]
# What each takes from the process's defaults unless it is told.
BOTH = ("empty", "eye", "full", "linspace", "ones", "rand", "randn", "tensor", "zeros")
DEVICE = ("arange", "as_tensor", "randint", "randperm", "tril_indices", "triu_indices")
NEEDS = {name: {"device", "dtype"} for name in BOTH} | {name: {"device"} for name in DEVICE}


def missing(source: str) -> list[str]:
    """The calls of torch's factories that leave something to the defaults, as "line: torch.name(needs)"."""
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="torch"), attr=name)) if (
                name in NEEDS
            ):
                left = NEEDS[name] - {word.arg for word in node.keywords}
                if left:
                    found.append(
                        f"{node.lineno}: torch.{name} without {' and '.join(sorted(left))}"
                    )
    return found


def test_factories_without_dtype_or_device_are_found() -> None:
    assert missing("torch.zeros(3, dtype=int, device=d)\ntorch.rand(3)") == [
        "2: torch.rand without device and dtype"
    ]


def test_factories_name_dtype_and_device() -> None:
    found = {str(path.relative_to(ROOT)): missing(path.read_text()) for path in FILES}
    assert {name: lines for name, lines in found.items() if lines} == {}
