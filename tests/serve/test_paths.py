"""Paths in JSON documents."""

from __future__ import annotations

import pytest

from mipoison.serve.documents import paths


@pytest.mark.parametrize(
    ("path", "steps"),
    [
        ("$", ()),
        ("a", ("a",)),
        ("$.a.b-c", ("a", "b-c")),
        ("$[*].a", (0, "a")),
        ('a["b.c"][*]', ("a", "b.c", 0)),
    ],
)
def test_paths(path: str, steps: tuple[str | int, ...]) -> None:
    assert paths.parse(path) == steps


@pytest.mark.parametrize(
    "path", ["", "a..b", "a[0]", "a[?(@.x)]", "a[*", ".a", "a b", "$..a", "a.", "*"]
)
def test_other_paths_are_refused(path: str) -> None:
    with pytest.raises(ValueError, match=r"expected a path such as a.b\[\*\].c"):
        paths.parse(path)
