"""Every file, section and decision that a comment, a docstring or a page names exists."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CODE = ("mipoison", "kernels", "csrc", "studies", "benchmarks", "tests", "examples")
# What a command writes, examples of a reader's own files, and headers of others.
ELSEWHERE = re.compile(
    r"(runs|build|dist|run|torch)/|(halves\.py|fit\.py|FILE\.csv|serve\.toml|summary\.md|leaderboard\.md|fenv\.h|malloc\.h)$"
)
NAMED = re.compile(
    r"(?<![\w./<*{$-])[\w.-]*(?:[\w-]+/)*[\w.-]+\.(?:py|md|h|cpp|toml|csv)\b(?![/\w*])"
)
SECTION = re.compile(r"mathematics\.md (\d+)")
DECISION = re.compile(r"[Dd]ecision (\d+)")


def files(*suffixes: str) -> list[Path]:
    """The project's own files with these suffixes."""
    found = [path for folder in CODE for path in (ROOT / folder).rglob("*")]
    found += [*ROOT.glob("*"), *(ROOT / "docs").rglob("*")]
    # (Pages that are generated for the site are checked when it is built.)
    found = [path for path in found if ROOT / "docs/pages" not in path.parents]
    # An editable install links kernels/ into the package.
    return sorted({path.resolve() for path in found if path.suffix in suffixes and path.is_file()})


def prose(path: Path) -> str:
    """What of a file is written for people: all of a page, comments and docstrings of code."""
    text = path.read_text(encoding="utf-8")
    if path.suffix in (".h", ".cpp"):
        return "\n".join(re.findall(r"//.*", text))
    if path.suffix != ".py":
        return text
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    said = [token.string for token in tokens if token.type == tokenize.COMMENT]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            said.append(ast.get_docstring(node) or "")
    return "\n".join(said)


def places(path: Path) -> Iterator[Path]:
    """Where a name in a file may be looked for: beside it, at the top, in the package."""
    yield from (path.parent, ROOT, ROOT / "mipoison", ROOT / "docs")


WRITERS = files(".py", ".md", ".h", ".cpp", ".toml")
KNOWN = {path.name for path in files(".py", ".md", ".h", ".cpp", ".toml", ".csv")}


@pytest.mark.parametrize(
    "folder", sorted({path.parent.relative_to(ROOT) for path in WRITERS}), ids=str
)
def test_named_files_exist(folder: Path) -> None:
    missing = [
        f"{path.name}: {name}"
        for path in WRITERS
        if path.parent == ROOT / folder
        for name in NAMED.findall(prose(path))
        if not ELSEWHERE.match(name)
        and not any((place / name).exists() for place in places(path))
        # Without a folder: a file of that name anywhere.
        and ("/" in name or name not in KNOWN)
    ]
    assert not missing, f"expected files of {folder} to name files that exist, got {missing}"


def test_named_sections_and_decisions_exist() -> None:
    sections = re.findall(r"\*\*(\d+)\. ", (ROOT / "docs/mathematics.md").read_text())
    decisions = {int(path.name[:4]) for path in (ROOT / "docs/decisions").glob("0*.md")}
    assert len(sections) >= 9 and len(decisions) >= 13
    for path in WRITERS:
        text = prose(path)
        for number in SECTION.findall(text):
            assert number in sections, f"{path}: mathematics has no section {number!r}"
        for number in DECISION.findall(text):
            assert int(number) in decisions, f"{path}: there is no decision {number}"


def anchor(heading: str) -> str:
    """How a page's heading is linked to."""
    return re.sub(r"[^\w -]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("path", files(".md"), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_resolve(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", path.read_text(encoding="utf-8")):
        name, _, section = target.partition("#")
        page = path.parent / name if name else path
        assert page.exists(), f"{path}: {target}"
        if section:
            headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
            assert section in map(anchor, headings), f"{path}: {target}"
