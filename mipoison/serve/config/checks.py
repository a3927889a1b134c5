"""Checks across settings, made before the port opens."""

from __future__ import annotations

import ipaddress
import re
import ssl
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from mipoison.serve.config.routes import Route, is_plain
from mipoison.serve.config.settings import Settings
from mipoison.serve.documents import paths

_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~\-]+")
_TOKEN: Final = re.compile(rb"[!-~]{16,}")
# Fields that hold the vectors themselves.
_HOLDERS: Final = {
    "v2": {"outputs", "data"},
    "tfserving": {"predictions", "outputs"},
    "mlflow": {"predictions"},
}
_OF_CONNECTION: Final = frozenset(
    ("connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "x-request-id")
)
# Headers that do not name an account, since whoever sends a request chooses them or they are of its connection.
_NO_ACCOUNT: Final = _OF_CONNECTION | {
    *("host", "content-type", "content-length", "accept", "user-agent", "expect"),
}
# A name of DNS, an IPv4 address or an IPv6 one.
_HOST: Final = re.compile(r"[A-Za-z0-9_\-]+(?:\.[A-Za-z0-9_\-]+)*\.?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")
_LONGEST_URL: Final = 2048
# Headers of a response that belong to its bytes or its connection, which are new.
_OF_BYTES: Final = _OF_CONNECTION | {
    *("content-encoding", "content-length", "content-range", "content-type", "digest", "etag"),
}


def routes_of(settings: Settings) -> tuple[Route, ...]:
    """The routes of the settings, defended ones first.

    Raises:
        ValueError: for a wrong one.
    """
    given = settings.routes
    return tuple(
        Route.parse(text, defended=defended)
        for listed, defended in ((given.defend, True), (given.pass_paths, False))
        for text in listed
    )


def check(settings: Settings) -> None:
    """Raises ValueError for settings that are wrong, or do not go together."""
    _check_upstream(settings)
    _check_answers(settings)
    guard = settings.defense
    if guard.key_env is not None and guard.key_file is not None:
        raise ValueError("expected one of key_env and key_file in [defense], got both")
    for name in (guard.identity_header, *settings.answers.pass_headers):
        if name is not None and _HEADER.fullmatch(name) is None:
            raise ValueError(f"expected the name of a header, got {name!r}")
    if (guard.identity_header or "").lower() in _NO_ACCOUNT:
        raise ValueError(
            "[defense] identity_header: expected a header that what authenticates clients sets, got "
            f"{guard.identity_header!r}, which a client chooses; name another one"
        )
    for name in settings.answers.pass_headers:
        if name.lower() in _OF_BYTES:
            raise ValueError(
                f"[answers] pass_headers: expected headers that hold for a new body, got {name!r}; leave it out"
            )
    if not settings.routes.defend:
        raise ValueError("[routes] defend: expected at least one path, got none")
    seen: set[tuple[str, str]] = set()
    routes = routes_of(settings)
    for route in routes:
        if (route.method, route.pattern) in seen:
            raise ValueError(f'[routes]: expected "{route}" once, got it twice')
        seen.add((route.method, route.pattern))
        for defended in routes:
            if defended.defended and not route.defended and route.overlaps(defended):
                raise ValueError(
                    f'[routes] pass_paths: expected no path that is defended, got "{route}" beside "{defended}"; name '
                    "the paths that pass one by one"
                )
    for network in settings.listen.metrics_allow:
        _network(network)
    token_of(settings)


def token_of(settings: Settings) -> bytes | None:
    """The token that /metrics asks for; None for none.

    Raises:
        ValueError: if it is short, or holds other characters than printable ASCII.
        OSError: if its file cannot be read.
    """
    file = settings.listen.metrics_token_file
    if file is None:
        return None
    token = file.read_bytes().strip()
    if _TOKEN.fullmatch(token) is None:
        raise ValueError(
            "[listen] metrics_token_file: expected 16 characters of printable ASCII or more, without spaces, got "
            "another content"
        )
    return token


def _network(text: str) -> None:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        raise ValueError(
            f"[listen] metrics_allow: expected networks such as 10.0.0.0/8, got {text!r}"
        ) from None


def _check_upstream(settings: Settings) -> None:
    upstream = settings.upstream
    try:
        parts = urlsplit(upstream.url)
        port: Any = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    host = parts.hostname or ""
    if (
        parts.scheme not in ("http", "https")
        or port == 0
        or _HOST.fullmatch(host) is None
        or not is_plain(parts.path)
        or not _is_url(upstream.url)
    ):
        raise ValueError(
            "[upstream] url: expected one such as http://127.0.0.1:8080, got another text"
        )
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError(
            "[upstream] url: expected no user, query or fragment, got one; headers of the client pass as they are"
        )
    if upstream.ca_file is not None and parts.scheme != "https":
        raise ValueError("[upstream] ca_file: expected an https url, got http; leave ca_file out")
    if upstream.ca_file is not None:
        _check_certificates(upstream.ca_file)
    ready = upstream.ready_path
    if ready is not None and not (ready.startswith("/") and is_plain(ready)):
        raise ValueError(
            "[upstream] ready_path: expected a path that begins with / and has plain segments, without a query, got "
            f"{ready[:80]!r}"
        )


def _is_url(text: str) -> bool:
    """Whether the client takes it: it refuses addresses such as 999.1.1.1, which have the form of one."""
    try:
        return bool(httpx.URL(text).host) and len(text) <= _LONGEST_URL
    except httpx.InvalidURL:
        return False


def _check_certificates(file: Path) -> None:
    try:
        ssl.create_default_context(cafile=file)
    except OSError as error:
        # (An SSLError is one, too.)
        raise ValueError(
            f"[upstream] ca_file: expected a file with certificates in PEM, got {file}: {error.strerror}"
        ) from None


def _check_answers(settings: Settings) -> None:
    answers = settings.answers
    is_path = answers.protocol == "path"
    if is_path != (answers.path is not None):
        got = "none" if is_path else f"one with {answers.protocol!r}"
        raise ValueError(
            f'[answers] path: expected one with protocol "path", and with no other, got {got}'
        )
    keys = set(_HOLDERS.get(answers.protocol, set()))
    if answers.path is not None:
        try:
            keys |= {step for step in paths.parse(answers.path) if isinstance(step, str)}
        except ValueError as error:
            raise ValueError(f"[answers] path: {error}") from None
    if answers.output is not None:
        if answers.protocol in ("path", "torchserve"):
            raise ValueError(
                f"[answers] output: expected none with protocol {answers.protocol!r}, got one; leave it out"
            )
        keys.add(answers.output)
    if answers.labels and answers.protocol == "v2":
        raise ValueError(
            "[answers] labels: expected none with protocol 'v2', whose vectors are lists, got some; leave them out"
        )
    if answers.pass_fields and (answers.protocol == "torchserve" or answers.path == "$"):
        raise ValueError(
            "[answers] pass_fields: expected none where the whole body is the vectors, got some; leave them out"
        )
    both = sorted(keys & set(answers.pass_fields))
    if both:
        raise ValueError(
            f"[answers] pass_fields: expected fields beside the vectors, got {', '.join(both)}, which hold them"
        )
    if answers.temperature != 1.0 and answers.gives != "logits":
        raise ValueError(
            '[answers] temperature: expected 1 with gives = "probabilities", got another; it acts on logits'
        )
    if len(set(answers.labels)) < len(answers.labels) or len(answers.labels) == 1:
        raise ValueError("[answers] labels: expected two or more different texts, got others")
