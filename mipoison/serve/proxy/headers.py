"""Which headers pass, to the upstream and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

from mipoison.serve.documents.document import is_harmless
from mipoison.serve.failures import Refused

Headers: TypeAlias = "list[tuple[bytes, bytes]]"
ID: Final = b"x-request-id"
# Of one connection, not of the request (RFC 9110, 7.6.1), or set anew.
_HOP: Final = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer transfer-encoding "
    b"upgrade host content-length expect".split()
)
# With which a listed request could become another one.
_OVERRIDES: Final = frozenset(
    b"x-http-method x-http-method-override x-method-override x-original-url x-original-uri x-rewrite-url "
    b"x-forwarded-uri x-forwarded-path".split()
)
# With which the answer could be no JSON, a part of it, or none.
_SHAPING: Final = frozenset(
    b"accept accept-encoding range if-range if-match if-none-match if-modified-since if-unmodified-since "
    b"a-im".split()
)
_ANSWERING: Final = ("retry-after", "www-authenticate", "allow", "cache-control")


def to_upstream(
    given: Iterable[tuple[bytes, bytes]], request_id: str, *, defended: bool
) -> Headers:
    """The headers of a request that is forwarded; a defended one asks for JSON that is not compressed."""
    headers = [(name.lower(), value) for name, value in given]
    left_out = _HOP | _OVERRIDES | _named_by_connection(headers) | {ID}
    if defended:
        left_out |= _SHAPING
    # (Gateways such as WSGI's read an underscore as a hyphen.)
    kept = [
        (name, value) for name, value in headers if not {name, name.replace(b"_", b"-")} & left_out
    ]
    kept.append((ID, request_id.encode()))
    if defended:
        kept += [(b"accept", b"application/json"), (b"accept-encoding", b"identity")]
    elif not any(name == b"accept-encoding" for name, _ in kept):
        kept.append((b"accept-encoding", b"identity"))
    return kept


def to_client(given: Iterable[tuple[bytes, bytes]]) -> Headers:
    """The headers of an answer that passes untouched."""
    headers = [(name.lower(), value) for name, value in given]
    left_out = (
        (_HOP - {b"content-length", b"trailer"})
        | _named_by_connection(headers)
        | {ID, b"date", b"server"}
    )
    return [(name, value) for name, value in headers if name not in left_out]


def beside_vectors(given: Iterable[tuple[bytes, bytes]], listed: Sequence[str]) -> Headers:
    """The headers that pass beside a defended answer or an error: few, and nothing in them looks like a score."""
    names = {name.lower() for name in (*_ANSWERING, *listed)}
    kept = []
    for name, value in given:
        text = value.decode("latin-1")
        if name.decode("latin-1").lower() in names and is_harmless(text):
            kept.append((name.lower(), value))
    return kept


def require_one_length(given: Iterable[tuple[bytes, bytes]]) -> None:
    """Raises Refused if a request tells its length in two ways.

    A server in front that reads the other one takes two requests for one, and checks the headers of the first alone.
    """
    if {b"content-length", b"transfer-encoding"} <= {name.lower() for name, _ in given}:
        raise Refused(
            "two_lengths",
            "expected a content-length or a transfer-encoding, got both, which could hide a second request; send one",
            {"connection": "close"},
        )


def single(given: Iterable[tuple[bytes, bytes]], name: str) -> str:
    """The value of a header that has to come exactly once.

    Raises:
        Refused: if it is missing, empty, or comes several times, one of which a client may have added; also where a
            server in front has joined them with a comma.
    """
    wanted = name.lower().encode()
    values = [value.decode("latin-1").strip(" \t") for key, value in given if key.lower() == wanted]
    if len(values) != 1 or not values[0]:
        got = f"{len(values)} of them" if len(values) != 1 else "an empty one"
        raise Refused(
            "identity", f"expected the header {name} once, which names the account, got {got}"
        )
    if "," in values[0]:
        raise Refused(
            "identity",
            f"expected the header {name} without a comma, which joins two of them, got one with it",
        )
    return values[0]


def _named_by_connection(headers: Headers) -> frozenset[bytes]:
    return frozenset(
        token.strip().lower()
        for name, value in headers
        if name == b"connection"
        for token in value.split(b",")
    )
