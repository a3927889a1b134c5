"""Strict reading of the upstream's JSON, and the question whether a text can hold a score."""

from __future__ import annotations

import json
import re
from typing import Any, Final, NoReturn

from mipoison.serve.failures import Refused

_LONGEST: Final = 256
# A fraction, a point after which NumPy leaves the zero out, a list of digits or a signed exponent.
_SCORE: Final = re.compile(r"\.\d|\d\.(?!\w)|\d,\d|\d[eE][+-]\d|\d\.[eE][+-]?\d", re.ASCII)
# Three parts or more of few digits.
_VERSION: Final = re.compile(r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){2,}(?![\d.])", re.ASCII)
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
# Digits or separators of other scripts.
_FOREIGN: Final = re.compile(r"(?![0-9])\d|\d[^\x00-\x7f\s]\d")
# What a client may read as another character: of JSON and most languages, of HTML, of addresses, and in headers.
_ESCAPE: Final = re.compile(
    r"\\(?:u[0-9a-f]{4}|u\{|U[0-9a-f]{8}|x[0-9a-f]{2}|[0-7]{1,3}|N\{)|&#|&\w+;|%[0-9a-f]{2}|=\?",
    re.IGNORECASE,
)


def read_json(body: bytes) -> Any:
    """The document of a body.

    Raises:
        Refused: if it is no UTF-8, no JSON, holds NaN or Infinity, gives a key twice, or is nested too deeply.
    """
    try:
        return json.loads(
            body.decode("utf-8"), parse_constant=_no_constant, object_pairs_hook=_unique
        )
    except (ValueError, RecursionError):
        raise Refused(
            "upstream_not_json",
            "expected a JSON document from the upstream, in UTF-8, without NaN, Infinity or a key twice in one "
            "object, and not deeply nested; got another body",
        ) from None


def write_json(document: Any) -> bytes:
    """The body of a document.

    Raises:
        Refused: if a field that passes holds what JSON in UTF-8 cannot: a number beyond float64, or half of a pair of
            surrogates.
    """
    try:
        text = json.dumps(document, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        return text.encode("utf-8")
    except ValueError:
        raise Refused(
            "upstream_document",
            "expected finite numbers and whole characters in the fields that pass, got others; see [answers] "
            "pass_fields",
        ) from None


def _no_constant(_: str) -> NoReturn:
    raise ValueError


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError
    return made


def is_harmless(text: str, *, longest: int = _LONGEST) -> bool:
    """Whether a text is short and nothing in it looks like a score.

    A number with a point, or with a signed exponent, does, and so does an escaped character, which could be a digit or
    a point. Versions and addresses of three parts or more, such as 1.2.3, do not.

    Example:
        >>> [is_harmless(text) for text in ("resnet-50", "v1.2.3", "0.73", "[.2, .8]", "7e-05", "0%2E73")]
        [True, True, False, False, False, False]
    """
    return _ESCAPE.search(text) is None and _is_harmless_as_written(text, longest)


def _is_harmless_as_written(text: str, longest: int) -> bool:
    if len(text) > longest or not all(c.isprintable() or c in "\t\r\n" for c in text):
        return False
    if _UUID.fullmatch(text):
        return True
    bare = _VERSION.sub("", text)
    return _SCORE.search(bare) is None and _FOREIGN.search(bare) is None


def is_harmless_body(body: bytes, content_type: str, *, longest: int) -> bool:
    """Whether a body of an error may pass as it is.

    It is JSON or plain text, not too long, nothing in it looks like a score, and no JSON list holds two numbers.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if not body:
        return True
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        return False
    if kind == "text/plain":
        return is_harmless(text, longest=longest)
    # JSON's own escapes are read before its texts are looked through.
    if not _is_harmless_as_written(text, longest):
        return False
    if kind != "application/json" and not kind.endswith("+json"):
        return False
    try:
        return _is_harmless_value(read_json(body), longest)
    except Refused:
        return False


def _is_harmless_value(value: Any, longest: int) -> bool:
    """Looks through texts and keys once more, since JSON can escape the digits in them."""
    if isinstance(value, str):
        return is_harmless(value, longest=longest)
    if isinstance(value, float):
        return False
    if isinstance(value, dict):
        if sum(_is_number(entry) for entry in value.values()) > 2:
            return False
        return all(
            is_harmless(key) and _is_harmless_value(entry, longest) for key, entry in value.items()
        )
    if isinstance(value, list):
        if sum(_is_number(entry) for entry in value) > 1:
            return False
        return all(_is_harmless_value(entry, longest) for entry in value)
    return True


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
