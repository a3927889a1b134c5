"""Which requests are defended, which pass, and which are refused."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from mipoison.serve.failures import Refused

METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
# Answered by the proxy itself.
OWN: Final = ("/healthz", "/readyz", "/metrics")
# Escapes, dot segments, parameters after a semicolon, dots at an end and doubled slashes could lead the upstream to
# another place than the one that was compared.
_PATH: Final = re.compile(r"(?:/[A-Za-z0-9._~!$&'()+,=:@\-]+(?<!\.))*/?")
_LONGEST: Final = 2048


@dataclass(frozen=True)
class Route:
    """Requests of one method to the paths of one pattern.

    Args:
        method: in capitals.
        pattern: a path; a segment, or the part of one before a colon, that is `*` stands for any.
        defended: whether the answers are; if not, they pass untouched.
    """

    method: str
    pattern: str
    defended: bool

    @classmethod
    def parse(cls, text: str, *, defended: bool) -> Route:
        """The route of a text such as "POST /v2/models/*/infer".

        Raises:
            ValueError: for another form, or a path that the proxy answers itself.
        """
        method, _, pattern = text.partition(" ")
        pattern = pattern.strip()
        if method not in METHODS or not _is_pattern(pattern):
            raise ValueError(
                f'expected a method and a path, such as "POST /v2/models/*/infer" (* for one segment), got {text!r}'
            )
        if pattern in OWN:
            raise ValueError(
                f"expected a path other than {', '.join(OWN)}, which the proxy answers itself, got {text!r}"
            )
        if defended and method not in ("GET", "POST", "PUT"):
            raise ValueError(f"expected GET, POST or PUT for a defended path, got {text!r}")
        return cls(method, pattern, defended)

    def fits(self, path: str) -> bool:
        """Whether the path is of this pattern."""
        pattern = re.escape(self.pattern).replace(r"\*", "[^/:]+")
        return re.fullmatch(pattern, path) is not None

    def overlaps(self, other: Route) -> bool:
        """Whether one request can be of both; also where that is not sure."""
        mine, others = (re.split("([/:])", route.pattern) for route in (self, other))
        return (
            self.method == other.method
            and len(mine) == len(others)
            and all(map(_overlap, mine, others))
        )

    def __str__(self) -> str:
        return f"{self.method} {self.pattern}"


def _overlap(a: str, b: str) -> bool:
    if "*" in a and "*" in b:
        return True
    pattern, text = (a, b) if "*" in a else (b, a)
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".+"), text) is not None


def _is_pattern(pattern: str) -> bool:
    return is_plain(pattern.replace("*", "x")) and pattern.startswith("/")


def is_plain(path: str) -> bool:
    """Whether a path, if there is one, has plain segments, and is not too long for a request."""
    return len(path) <= _LONGEST and _PATH.fullmatch(path) is not None


def find(routes: tuple[Route, ...], method: str, path: str) -> Route:
    """The route of a request; a defended one before one that passes.

    Raises:
        Refused: if the path could mean another one, or no route is listed for it or for the method.
    """
    if not path.startswith("/") or _PATH.fullmatch(path) is None:
        raise Refused(
            "bad_path",
            "expected a path of plain segments, got percent-escapes, dots at an end, semicolons, doubled slashes or "
            "other characters; send the path as it is listed",
        )
    fitting = [route for route in routes if route.fits(path)]
    found = [route for route in fitting if route.method == method]
    if found:
        return max(found, key=lambda route: route.defended)
    if fitting:
        allowed = ", ".join(sorted({route.method for route in fitting}))
        raise Refused(
            "method_not_listed",
            f"expected {allowed} for this path, got another method",
            {"allow": allowed},
        )
    raise Refused(
        "not_listed",
        "expected a path that the proxy lists, got another one; the operator adds it to [routes] defend or pass_paths",
    )
